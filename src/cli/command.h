// What a subcommand is. A new one is a file x_command.cpp with a function `Command x_command()` and one line in
// commands.cpp; program.cpp does the rest: parsing, configuration, help, suggestions, exit codes.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "cli/arguments.h"

namespace hp::cli {

inline constexpr int kExitOk = 0, kExitFailure = 1, kExitUsage = 2;

/// What a command is run with.
struct Invocation {
  const Config& config;
  /// Flags, environment and file once more, for SIGHUP.
  std::function<Result<Config>()> reread;
};

struct Command {
  std::string_view name;
  std::string_view summary;        ///< one line, for the list
  std::string_view details = {};   ///< what one should know before using it
  std::string_view examples = {};  ///< lines of "  homeport …"
  /// Sections of the configuration ("server", "engine") whose keys are flags of this command. With none, no
  /// configuration file and no environment is read.
  std::vector<std::string_view> sections = {};
  /// Names its own flags; may be empty. Values live in what both functions capture.
  std::function<void(Arguments&)> declare = {};
  /// The exit code, or an error: invalid_argument ends with 2 and a hint at --help, everything else with 1.
  std::function<Result<int>(const Invocation&)> run = {};
  /// A command with these only chooses among them; they are named "plan size", "plan tco".
  std::vector<Command> subcommands = {};
};

/// Every command, in the order of the help.
std::vector<Command> all_commands();

Command serve_command();
Command node_command();
Command gateway_command();
Command pull_command();
Command bench_command();
Command run_command();
Command inspect_command();
Command doctor_command();
Command top_command();
Command plan_command();
Command plan_feasibility_command();
Command plan_tco_command();
Command plan_size_command();
Command plan_report_command();
Command plan_autoscale_command();
Command plan_deploy_command();
Command plan_catalog_command();
Command plan_memory_command();
Command plan_accuracy_command();
Command ops_command();
Command ops_rules_command();
Command ops_playbooks_command();
Command ops_dashboard_command();
Command ops_test_notice_command();
Command quantize_command();
Command completion_command();

}  // namespace hp::cli
