// The table of commands: one line each.
#include "cli/command.h"

namespace hp::cli {

std::vector<Command> all_commands() {
  // clang-format off
  return {
      serve_command(),
      node_command(),
      gateway_command(),
      run_command(),
      pull_command(),
      bench_command(),
      inspect_command(),
      doctor_command(),
      top_command(),
      plan_command(),
      ops_command(),
      quantize_command(),
      completion_command(),
  };
  // clang-format on
}

}  // namespace hp::cli
