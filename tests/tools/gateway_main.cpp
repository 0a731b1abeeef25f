// The gateway without the rest of the program, for tests/chaos and bench/gateway_overhead.py: --key value pairs.
#include <cstdio>
#include <string>

#include "base/log.h"
#include "gateway/daemon.h"

int main(int argc, char** argv) {
  hp::Config config;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (const auto set = config.set_flag(flag.substr(flag.find_first_not_of('-')), argv[i + 1]); !set) {
      std::fprintf(stderr, "gateway_tool: %s\n", set.error().message.c_str());
      return 2;
    }
  }
  const std::string& level = config.text("log.level");
  hp::log::configure({.level = level == "error"   ? hp::log::Level::error
                               : level == "debug" ? hp::log::Level::debug
                                                  : hp::log::Level::info});
  return hp::gateway::run_gateway(config);
}
