#include "cli/fleet_desk.h"

#include <algorithm>

namespace hp::cli {
namespace {

constexpr std::chrono::seconds kRestartPatience{120};  // from then on a node that was to be restarted counts as down

}  // namespace

std::string LocalNodes::socket(std::int64_t index, std::string_view ending) const {
  return fmt::format("unix:{}", (folder_ / fmt::format("node{}{}", index, ending)).string());
}

fleet::ChildSpec LocalNodes::child(std::int64_t index) const {
  std::vector<std::string> command = command_;
  command.insert(command.end(),
                 {"--host", socket(index, ".sock"), "--admin-host", socket(index, ".admin"), "--api-keys-file", ""});
  return {.name = fmt::format("node{}", index), .command = std::move(command)};
}

gateway::NodeConfig LocalNodes::node(std::int64_t index, int group) const {
  return {.name = fmt::format("node{}", index),
          .host = socket(index, ".sock"),
          .priority = group,
          .concurrent = config_.integer("engine.max_running"),
          .admin = socket(index, ".admin")};
}

Status FleetDesk::restart(const std::string& node, bool hard) {
  const std::lock_guard lock(mutex_);
  HP_TRY_VOID(fleet_.restart(node, hard));
  restarting_[node] = std::chrono::steady_clock::now();
  return {};
}

Result<FleetControls::Change> FleetDesk::grow(std::size_t by, bool dry_run) {
  const std::lock_guard lock(mutex_);
  const std::size_t now = fleet_.wanted(), most = fleet_.children().size(), wanted = std::min(now + by, most);
  if (wanted == now)
    return fail(ErrorCode::resource_exhausted, "{} of at most {} node processes run (fleet.nodes_max)", now, most);
  if (!dry_run) {
    added_ = std::min(added_ + wanted - now, most - least_);
    fleet_.want(wanted);
  }
  return FleetControls::Change{.nodes = static_cast<int>(wanted - now),
                               .text = fmt::format("{} node processes instead of {}", wanted, now)};
}

Result<FleetControls::Change> FleetDesk::shrink(std::size_t by, bool dry_run) {
  const std::lock_guard lock(mutex_);
  const std::size_t now = fleet_.wanted(), wanted = std::max(now - std::min(by, now), least_);
  if (!dry_run) added_ -= std::min(by, added_);
  if (wanted >= now) return fail(ErrorCode::not_found, "no node was added that could be ended");
  if (!dry_run) fleet_.want(wanted);
  return FleetControls::Change{.nodes = static_cast<int>(now - wanted),
                               .text = fmt::format("{} node processes instead of {}", wanted, now)};
}

std::map<std::string, FleetControls::Life> FleetDesk::lives() {
  const std::lock_guard lock(mutex_);
  const TimePoint now = std::chrono::steady_clock::now();
  std::erase_if(restarting_, [&](const auto& entry) { return now - entry.second > kRestartPatience; });
  std::map<std::string, FleetControls::Life> out;
  for (const auto& child : fleet_.children())
    out[child.name] = {.deaths = child.deaths, .restarting = restarting_.contains(child.name), .wanted = child.wanted};
  return out;
}

FleetControls FleetDesk::controls() {
  return {.restart = [this](const std::string& node, bool hard) { return restart(node, hard); },
          .grow = [this](int count, bool dry_run) { return grow(static_cast<std::size_t>(count), dry_run); },
          .shrink = [this](int count, bool dry_run) { return shrink(static_cast<std::size_t>(count), dry_run); },
          .pid =
              [this](const std::string& node) {
                const std::lock_guard lock(mutex_);
                for (const auto& child : fleet_.children())
                  if (child.name == node) return child.pid;
                return pid_t{-1};
              },
          .lives = [this] { return lives(); }};
}

}  // namespace hp::cli
