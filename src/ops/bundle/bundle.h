// The diagnostics bundle: everything a person needs who was not there, in one file that may be sent around. Bounded in
// size and in time; what cannot be had in time is named in its report and left out.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "net/http_client.h"
#include "ops/console/console_limits.h"

namespace hp::ops {

struct BundlePage {
  std::string name;  ///< "nodes/a/metrics.txt"
  net::ClientRequest request;
  bool doubtful = false;  ///< of somebody who does not seem to answer: waited for a quarter as long
};

struct BundleInput {
  std::filesystem::path file;
  std::vector<pid_t> processes;  ///< whose last log lines and stacks are wanted, the hung one first
  /// Made when their turn comes, on the calling thread.
  std::vector<std::pair<std::string, std::function<std::string()>>> texts;
  std::vector<BundlePage> pages;     ///< fetched all at once
  std::vector<std::string> secrets;  ///< taken out of everything
  std::chrono::milliseconds patience = limits::kBundlePatience;
  std::size_t max_bytes = 20u << 20;
};

struct BundleReport {
  std::filesystem::path file;
  std::size_t bytes = 0;
  double seconds = 0;
  std::vector<std::string> files, left_out;  ///< left_out: "NAME: why"
};

/// Blocks for at most `patience` and a little.
Result<BundleReport> write_bundle(const BundleInput& input);

/// Keeps the newest bundles of a folder.
void trim_bundles(const std::filesystem::path& folder, std::size_t keep);

}  // namespace hp::ops
