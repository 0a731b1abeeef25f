// What the watch is told.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "ops/incident/playbook.h"
#include "ops/notice/channel.h"
#include "ops/rule.h"

namespace hp::ops {

struct WatchOptions {
  std::chrono::milliseconds interval{1'000};
  std::string database;  ///< file; empty: incidents are kept in memory only
  std::vector<Rule> rules;
  PlaybookSet playbooks;
  NoticeOptions notices;
  std::vector<std::string> forbidden;  ///< actions
  bool automatic = true, dry_run = false;
};

/// From the keys ops.*.
Result<WatchOptions> watch_options(const Config& config);
/// Where the watch keeps its files: ops.folder, else a folder in the user's home; empty: nowhere.
std::string ops_folder(const Config& config);

}  // namespace hp::ops
