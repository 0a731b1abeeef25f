#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "base/black_box.h"
#include "base/log.h"
#include "cli/program.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is an error of one write, not the end of the program
  if (const auto opened = hp::black_box::open(); !opened) hp::log::debug("{}", opened.error().message);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return hp::cli::run_program(arguments, environ);
}
