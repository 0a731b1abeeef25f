// The frame around the commands: finds the command, reads flags, environment and file into one Config, prints help,
// suggestions and errors, and says the exit code.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"

namespace hp::cli {

inline constexpr std::string_view kVersion = HP_VERSION;

/// `arguments` without the program's name; `environment` ends with a null pointer.
int run_program(std::span<const std::string> arguments, const char* const* environment);

/// log.level and log.format.
Status configure_log(const Config& config);

/// The help of the whole program.
std::string program_help();

/// Long flags of a command, with their dashes: its own and those of its configuration keys.
std::vector<std::string> flag_names(const Command& command);

}  // namespace hp::cli
