// The table of commands: one line each.
#include "cli/command.h"

namespace hp::cli {

std::vector<Command> all_commands() {
  return {
      serve_command(), node_command(), inspect_command(), doctor_command(), completion_command(),
  };
}

}  // namespace hp::cli
