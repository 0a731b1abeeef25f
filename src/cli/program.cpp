// The only file beside arguments.cpp that sees CLI11.
#include "cli/program.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/log.h"

namespace hp::cli {
namespace {

namespace fs = std::filesystem;

void print(std::FILE* to, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), to);
}

std::string_view section_of(const ConfigKey& key) {
  return key.name.substr(0, key.name.find('.'));
}

std::string key_help(const ConfigKey& key) {
  std::string out(key.help);
  if (!key.unit.empty()) out += fmt::format(" ({})", key.unit);
  if (!key.default_value.empty()) out += fmt::format(" [{}]", key.default_value);
  return out;
}

std::string title(std::string_view section) {
  std::string out(section);
  out[0] = static_cast<char>(out[0] - 'a' + 'A');
  return out;
}

using Flags = std::vector<std::pair<std::string_view, std::string>>;

/// Adds the flags of the command's sections; what the line says goes to `flags`.
void add_key_flags(CLI::App& app, const Command& command, Flags& flags) {
  for (const std::string_view section : command.sections) {
    for (const ConfigKey& key : config_keys()) {
      if (section_of(key) != section) continue;
      const auto set = [&flags, flag = key.flag](std::string_view value) { flags.emplace_back(flag, value); };
      CLI::Option* option = nullptr;
      if (key.type == ConfigType::boolean) {
        option = app.add_flag_function(
            fmt::format("--{0},!--no-{0}", key.flag), [set](std::int64_t count) { set(count > 0 ? "true" : "false"); },
            key_help(key));
      } else {
        option = app.add_option_function<std::string>(
            fmt::format("--{}", key.flag), [set](const std::string& value) { set(value); }, key_help(key));
        option->type_name(key.type == ConfigType::text ? "TEXT" : "N");
      }
      option->group(title(section));
    }
  }
}

/// Everything CLI11 knows about one command.
struct Parser {
  CLI::App app;
  Flags flags;
  std::string config_file;

  explicit Parser(const Command& command)
      : app(std::string(command.details), fmt::format("homeport {}", command.name)) {
    app.set_help_flag("-h,--help", "Print this help.");
    app.get_option("--help")->group("Options");
    app.get_formatter()->column_width(34);
    app.get_formatter()->label("REQUIRED", "(required)");
    app.allow_extras();
    Arguments arguments(app);
    if (command.declare) command.declare(arguments);
    if (!command.sections.empty()) {
      app.add_option("--config", config_file, "TOML file; also HOMEPORT_CONFIG, else ~/.homeport/homeport.toml.")
          ->group("Options")
          ->type_name("FILE");
      add_key_flags(app, command, flags);
    }
  }
};

std::string command_help(const Command& command, const Parser& parser) {
  std::string out = fmt::format("homeport {}: {}\n", command.name, command.summary);
  out += parser.app.help();
  if (!command.examples.empty()) out += fmt::format("\nExamples:\n{}\n", command.examples);
  if (!command.sections.empty())
    out += "\nEvery flag with a default in [brackets] is a configuration key too: `homeport serve --print-config`.\n";
  return out;
}

int usage_error(std::string_view command, std::string_view message) {
  const std::string program = command.empty() ? "homeport" : fmt::format("homeport {}", command);
  print(stderr, fmt::format("{}: {}\nTry '{} --help'.\n", program, message, program));
  return kExitUsage;
}

std::string unexpected(const Command& command, const std::string& word) {
  if (!word.starts_with('-')) return fmt::format("unexpected argument '{}'", word);
  const std::string name = word.substr(0, word.find('='));
  const std::vector<std::string> flags = flag_names(command);
  const std::vector<std::string_view> views(flags.begin(), flags.end());
  const std::string_view nearest = nearest_name(name, views);
  if (nearest.empty()) return fmt::format("unknown flag '{}'", name);
  return fmt::format("unknown flag '{}'; did you mean '{}'?", name, nearest);
}

std::optional<std::string> environment_value(const char* const* environment, std::string_view name) {
  for (; *environment != nullptr; ++environment) {
    const std::string_view line = *environment;
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == '=')
      return std::string(line.substr(name.size() + 1));
  }
  return std::nullopt;
}

fs::path config_path(const Parser& parser, const char* const* environment) {
  if (!parser.config_file.empty()) return parser.config_file;
  if (const auto named = environment_value(environment, "HOMEPORT_CONFIG")) return *named;
  const auto home = environment_value(environment, "HOME");
  std::error_code error;
  fs::path standard = fs::path(home.value_or("")) / ".homeport/homeport.toml";
  return home && fs::exists(standard, error) ? standard : fs::path();
}

void warn_about_strangers(std::vector<std::string> variables) {
  std::erase(variables, "HOMEPORT_CONFIG");
  std::erase(variables, "HOMEPORT_MODELS");
  std::vector<std::string> names;
  for (const ConfigKey& key : config_keys()) names.push_back(key.environment_name());
  const std::vector<std::string_view> views(names.begin(), names.end());
  for (const std::string& name : variables) {
    const std::string_view nearest = nearest_name(name, views);
    log::warn("the environment variable {} is no configuration key{}", name,
              nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
  }
}

Result<Config> read_config(const Parser& parser, const char* const* environment) {
  Config config;
  for (const auto& [flag, value] : parser.flags) HP_TRY_VOID(config.set_flag(flag, value));
  if (const fs::path file = config_path(parser, environment); !file.empty()) HP_TRY_VOID(config.read_file(file));
  HP_TRY(std::vector<std::string> strangers, config.read_environment(environment));
  warn_about_strangers(std::move(strangers));
  return config;
}

}  // namespace

Status configure_log(const Config& config) {
  static constexpr std::string_view kLevels[] = {"trace", "debug", "info", "warn", "error", "off"};
  const std::string& level = config.text("log.level");
  const auto* const found = std::ranges::find(kLevels, level);
  if (found == std::end(kLevels))
    return fail(ErrorCode::invalid_argument, "--log-level: expected trace, debug, info, warn, error or off, found '{}'",
                level);
  const std::string& format = config.text("log.format");
  if (format != "text" && format != "json")
    return fail(ErrorCode::invalid_argument, "--log-format: expected text or json, found '{}'", format);
  log::configure({.level = static_cast<log::Level>(found - std::begin(kLevels)),
                  .format = format == "json" ? log::Format::json : log::Format::text});
  return {};
}

namespace {

int finish(const Command& command, const Error& error) {
  if (error.code == ErrorCode::invalid_argument) return usage_error(command.name, error.message);
  print(stderr, fmt::format("homeport {}: {}\n", command.name, error.message));
  return kExitFailure;
}

int run_command(const Command& command, std::span<const std::string> arguments, const char* const* environment) {
  Parser parser(command);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // CLI11 takes them from the back
    parser.app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    print(stdout, command_help(command, parser));
    return kExitOk;
  } catch (const CLI::ParseError& e) {
    return usage_error(command.name, e.what());
  }
  if (const std::vector<std::string> extra = parser.app.remaining(); !extra.empty())
    return usage_error(command.name, unexpected(command, extra.front()));
  const auto read = [&] {
    return command.sections.empty() ? Result<Config>(Config()) : read_config(parser, environment);
  };
  const Result<Config> config = read();
  if (!config) return finish(command, config.error());
  if (const Status status = configure_log(*config); !status) return finish(command, status.error());
  const Result<int> code = command.run({.config = *config, .reread = read});
  return code ? *code : finish(command, code.error());
}

std::string group_help(const Command& group) {
  std::string out = fmt::format("homeport {}: {}\n{}\n\nCommands:\n", group.name, group.summary, group.details);
  for (const Command& command : group.subcommands) out += fmt::format("  {:<18}{}\n", command.name, command.summary);
  return out + fmt::format("\nExamples:\n{}\n", group.examples);
}

int run_group(const Command& group, std::span<const std::string> arguments, const char* const* environment) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    print(arguments.empty() ? stderr : stdout, group_help(group));
    return arguments.empty() ? kExitUsage : kExitOk;
  }
  std::vector<std::string_view> words;
  for (const Command& command : group.subcommands) {
    words.push_back(command.name.substr(group.name.size() + 1));
    if (words.back() == arguments[0]) return run_command(command, arguments.subspan(1), environment);
  }
  const std::string_view nearest = nearest_name(arguments[0], words);
  return usage_error(group.name, nearest.empty()
                                     ? fmt::format("no command '{}'", arguments[0])
                                     : fmt::format("no command '{}'; did you mean '{}'?", arguments[0], nearest));
}

}  // namespace

std::vector<std::string> flag_names(const Command& command) {
  const Parser parser(command);
  std::vector<std::string> out;
  for (const CLI::Option* option : parser.app.get_options())
    for (const std::string& name : option->get_lnames()) out.push_back("--" + name);
  return out;
}

std::string program_help() {
  std::string out =
      "Homeport: language models on your own machines, behind an OpenAI-compatible address.\n\n"
      "Usage: homeport COMMAND [flags]\n\nCommands:\n";
  for (const Command& command : all_commands()) out += fmt::format("  {:<12}{}\n", command.name, command.summary);
  out +=
      "\nhomeport COMMAND --help explains a command, with examples. homeport --version prints the version.\n\n"
      "Start here:\n  homeport doctor\n  homeport run deepseek-r1:1.5b\n  homeport serve --model model.gguf\n";
  return out;
}

int run_program(std::span<const std::string> arguments, const char* const* environment) {
  if (arguments.empty()) {
    print(stderr, program_help());
    return kExitUsage;
  }
  const std::string_view name = arguments[0];
  if (name == "--version" || name == "-V") {
    print(stdout, fmt::format("homeport {}\n", kVersion));
    return kExitOk;
  }
  const std::vector<Command> commands = all_commands();
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (name == "--help" || name == "-h" || name == "help") {
    if (rest.empty()) {
      print(stdout, program_help());
      return kExitOk;
    }
    return run_program(std::vector<std::string>{rest[0], "--help"}, environment);
  }
  std::vector<std::string_view> names;
  for (const Command& command : commands) {
    if (command.name == name && !command.subcommands.empty()) return run_group(command, rest, environment);
    if (command.name == name) return run_command(command, rest, environment);
    names.push_back(command.name);
  }
  if (name.starts_with('-'))
    return usage_error("", fmt::format("expected a command before '{}', such as 'homeport serve {}'", name, name));
  const std::string_view nearest = nearest_name(name, names);
  return usage_error("", nearest.empty() ? fmt::format("no command '{}'", name)
                                         : fmt::format("no command '{}'; did you mean '{}'?", name, nearest));
}

}  // namespace hp::cli
