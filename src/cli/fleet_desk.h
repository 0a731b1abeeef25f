// The local fleet as the watch's actions see it, from any thread: restarts, growth and shrinking.
#pragma once

#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/config.h"
#include "cli/operations.h"
#include "fleet/fleet.h"
#include "gateway/node_table.h"

namespace hp::cli {

/// Names, sockets and command lines of this process's nodes.
class LocalNodes {
 public:
  LocalNodes(const Config& config, std::filesystem::path folder, std::vector<std::string> command)
      : config_(config), folder_(std::move(folder)), command_(std::move(command)) {}
  [[nodiscard]] fleet::ChildSpec child(std::int64_t index) const;
  [[nodiscard]] gateway::NodeConfig node(std::int64_t index, int group) const;

 private:
  [[nodiscard]] std::string socket(std::int64_t index, std::string_view ending) const;
  const Config& config_;
  std::filesystem::path folder_;
  std::vector<std::string> command_;
};

class FleetDesk {
 public:
  /// `least`: as many run without anybody's doing. The fleet must outlive this.
  FleetDesk(fleet::Fleet& fleet, std::size_t least) : fleet_(fleet), least_(least) {}

  /// What the fleet's own thread does: its children die with that thread, so only that one starts them.
  template <typename Task>
  void with_fleet(const Task& task) {
    const std::lock_guard lock(mutex_);
    task();
  }
  [[nodiscard]] FleetControls controls();
  /// Those that an action added stay until an action takes them back, whatever the scaling law wants. Inside
  /// with_fleet.
  [[nodiscard]] std::size_t floor() const { return least_ + added_; }

 private:
  Status restart(const std::string& node, bool hard);
  Result<FleetControls::Change> grow(std::size_t by, bool dry_run);
  Result<FleetControls::Change> shrink(std::size_t by, bool dry_run);
  std::map<std::string, FleetControls::Life> lives();

  fleet::Fleet& fleet_;
  std::mutex mutex_;
  const std::size_t least_;
  std::size_t added_ = 0;                        // by actions
  std::map<std::string, TimePoint> restarting_;  // since when
};

}  // namespace hp::cli
