// `completion`: scripts that let a shell complete commands and flags. Written from the same tables as the help.
#include <cstdio>
#include <memory>

#include "cli/command.h"
#include "cli/program.h"

namespace hp::cli {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string command_names() {
  std::vector<std::string> names;
  for (const Command& command : all_commands()) names.emplace_back(command.name);
  return joined(names);
}

std::string bash_script() {
  std::string out =
      "_homeport() {\n  local word=${COMP_WORDS[COMP_CWORD]} words=\"\"\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W '" +
      command_names() + " --help --version' -- \"$word\")); return\n  fi\n  case ${COMP_WORDS[1]} in\n";
  for (const Command& command : all_commands())
    out += fmt::format("    {}) words='{}' ;;\n", command.name, joined(flag_names(command)));
  out +=
      "  esac\n  case $word in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
      "    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n  esac\n}\ncomplete -o filenames -F _homeport homeport\n";
  return out;
}

std::string zsh_script() {
  std::string out = "#compdef homeport\n_homeport() {\n  local -a commands\n  commands=(\n";
  for (const Command& command : all_commands()) out += fmt::format("    '{}:{}'\n", command.name, command.summary);
  out +=
      "  )\n  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
      "  if [[ $words[CURRENT] != -* ]]; then _files; return; fi\n  case $words[2] in\n";
  for (const Command& command : all_commands())
    out += fmt::format("    {}) compadd -- {} ;;\n", command.name, joined(flag_names(command)));
  return out + "  esac\n}\ncompdef _homeport homeport\n";
}

std::string fish_script() {
  std::string out = fmt::format("complete -c homeport -n __fish_use_subcommand -f -a '{}'\n", command_names());
  for (const Command& command : all_commands())
    for (const std::string& flag : flag_names(command))
      out +=
          fmt::format("complete -c homeport -n '__fish_seen_subcommand_from {}' -l {}\n", command.name, flag.substr(2));
  return out;
}

}  // namespace

Command completion_command() {
  auto shell = std::make_shared<std::string>();
  return {
      .name = "completion",
      .summary = "completion script for bash, zsh or fish",
      .examples =
          "  source <(homeport completion bash)\n"
          "  homeport completion zsh > ~/.zfunc/_homeport\n"
          "  homeport completion fish > ~/.config/fish/completions/homeport.fish",
      .declare = [shell](Arguments& a) { a.positional("shell", *shell, "bash, zsh or fish", true); },
      .run = [shell](const Invocation&) -> Result<int> {
        std::string script;
        if (*shell == "bash") {
          script = bash_script();
        } else if (*shell == "zsh") {
          script = zsh_script();
        } else if (*shell == "fish") {
          script = fish_script();
        } else {
          return fail(ErrorCode::invalid_argument, "expected bash, zsh or fish, found '{}'", *shell);
        }
        std::fputs(script.c_str(), stdout);
        return kExitOk;
      },
  };
}

}  // namespace hp::cli
