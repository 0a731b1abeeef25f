#include "ops/watch_options.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace hp::ops {
namespace {

Result<std::string> text_of_file(const Config& config, std::string_view key) {
  const std::string& path = config.text(key);
  if (path.empty()) return std::string();
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};  // an empty file is an empty text
  if (!file.is_open() || file.bad()) return fail(ErrorCode::not_found, "{}: cannot read {}", key, path);
  return text;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!word.empty()) out.emplace_back(word);
  }
  return out;
}

}  // namespace

std::string ops_folder(const Config& config) {
  const std::string& folder = config.text("ops.folder");
  if (folder == "none") return {};
  if (!folder.empty()) return folder;
  const char* home = std::getenv("HOME");
  return home == nullptr ? std::string() : std::string(home) + "/.homeport/ops";
}

Result<WatchOptions> watch_options(const Config& config) {
  WatchOptions options;
  options.interval = std::chrono::milliseconds(config.integer("ops.interval_ms"));
  if (const std::string folder = ops_folder(config); !folder.empty()) options.database = folder + "/incidents.db";
  HP_TRY(const std::string rules, text_of_file(config, "ops.rules_file"));
  HP_TRY(options.rules, load_rules(rules, config.text("ops.rules_file")));
  HP_TRY(const std::string playbooks, text_of_file(config, "ops.playbooks_file"));
  HP_TRY(options.playbooks, load_playbooks(playbooks, config.text("ops.playbooks_file")));
  HP_TRY(const std::string notices, text_of_file(config, "ops.notices_file"));
  HP_TRY(options.notices, load_notices(notices, config.text("ops.notices_file")));
  options.forbidden = words_of(config.text("ops.forbid"));
  const std::string& playbooks_do = config.text("ops.playbooks");
  if (playbooks_do != "act" && playbooks_do != "dry-run" && playbooks_do != "off")
    return fail(ErrorCode::invalid_argument, "ops.playbooks: expected act, dry-run or off, found '{}'", playbooks_do);
  options.automatic = playbooks_do != "off";
  options.dry_run = playbooks_do == "dry-run";
  return options;
}

}  // namespace hp::ops
