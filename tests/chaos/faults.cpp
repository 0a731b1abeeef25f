#include "faults.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <utility>

#include "base/counter_rng.h"

namespace hp::chaos {
namespace {
constexpr double kRestart = 1.0, kFreeze = 5.0, kCut = 5.0, kLongFreeze = 8.0, kRollStep = 1.5;
constexpr std::array kKinds{
    "kill node",  "freeze node",  "freeze node for good", "kill gateway",     "stall engine",    "cut streams",
    "slow node",  "429 storm",    "500 errors",           "flood of 4xx",     "rolling restart", "freeze gateway",
    "kill redis", "freeze redis", "flush redis",          "drop node's link", "drop redis' link"};
}  // namespace

std::uint64_t Faults::draw(std::uint64_t below) {
  return static_cast<std::uint64_t>(uniform_at(seed_, drawn_++, 0) * static_cast<double>(below));
}

// A running member that may break while another one stays whole.
Process* Faults::healthy(std::vector<Process>& group) {
  std::vector<Process*> whole;
  for (Process& p : group)
    if (p.running() && !p.frozen && !p.cut_off && p.back_at < 0) whole.push_back(&p);
  if (whole.size() < 2) return nullptr;
  return whole[draw(whole.size())];
}

void Faults::ask_node(const Process& node, const std::string& fault) {
  http_->start({.method = "POST", .host = node.host, .port = node.port, .target = "/fault", .body = fault}, {});
}

void Faults::flood(int requests) {
  static constexpr std::array<const char*, 3> kBodies{"{", R"({"model":"fake"})",
                                                      R"({"model":"no such model","messages":[]})"};
  for (int i = 0; i < requests; ++i)
    http_->start({.method = "POST",
                  .port = world_.gateways[static_cast<std::size_t>(i) % world_.gateways.size()].port,
                  .target = "/v1/chat/completions",
                  .body = kBodies[static_cast<std::size_t>(i) % kBodies.size()]},
                 {});
}

bool Faults::break_node(const std::string& kind, double now) {
  Process* node = healthy(world_.nodes);
  if (node == nullptr) return false;
  if (kind == "drop node's link") {
    if (node->link < 0) return false;
    cut_link(*node, now);
  } else if (kind == "kill node") {
    node->signal(SIGKILL);
    node->back_at = now + kRestart;
  } else if (kind.starts_with("freeze node")) {
    node->signal(SIGSTOP);
    node->back_at = now + (kind == "freeze node" ? kFreeze : kLongFreeze);
  } else if (!world_.fake_nodes) {
    return false;
  } else if (kind == "stall engine") {
    ask_node(*node, R"({"kind":"stall","ms":4000})");
  } else if (kind == "cut streams") {
    ask_node(*node, R"({"kind":"cut"})");
  } else if (kind == "slow node") {
    ask_node(*node, R"({"kind":"slow","ms":5000,"factor":10})");
  } else if (kind == "429 storm") {
    for (const Process& n : world_.nodes)
      if (n.running() && !n.frozen && !n.cut_off) ask_node(n, R"({"kind":"busy","ms":1000})");
  } else if (kind == "500 errors") {
    ask_node(*node, R"({"kind":"error","ms":1500})");
  }
  return true;
}

bool Faults::break_redis(const std::string& kind, double now) {
  Process& redis = world_.redis;
  if (redis.command.empty() || !redis.running() || redis.frozen || redis.cut_off) return false;
  if (kind == "drop redis' link") {
    if (redis.link < 0) return false;
    cut_link(redis, now);
    return true;
  }
  if (kind == "kill redis") {
    redis.signal(SIGKILL);
    redis.back_at = now + 2 * kRestart;
  } else if (kind == "freeze redis") {
    redis.signal(SIGSTOP);
    redis.back_at = now + kFreeze;
  } else {
    return say_to(redis.host, redis.port, "FLUSHALL\r\n");
  }
  return true;
}

bool Faults::possible(std::string_view kind) const {
  if (kind == "drop node's link") return world_.nodes.front().link >= 0;
  if (kind == "drop redis' link") return !world_.redis.command.empty() && world_.redis.link >= 0;
  return kind.find("redis") == std::string_view::npos || !world_.redis.command.empty();
}

int Faults::fewest() const {
  int fewest = std::numeric_limits<int>::max();
  for (const char* kind : kKinds) {
    const auto found = counts_.find(kind);
    if (possible(kind)) fewest = std::min(fewest, found == counts_.end() ? 0 : found->second);
  }
  return fewest;
}

bool Faults::happen(const std::string& kind, double now) {
  if (kind == "kill gateway" || kind == "freeze gateway") {
    Process* gateway = healthy(world_.gateways);
    if (gateway == nullptr) return false;
    gateway->signal(kind == "kill gateway" ? SIGKILL : SIGSTOP);
    gateway->back_at = now + (kind == "kill gateway" ? kRestart : 2.0);
    return true;
  }
  if (kind == "flood of 4xx") {
    flood(300);
    return true;
  }
  if (kind == "rolling restart") {
    if (rolling_at_ >= 0) return false;
    rolling_ = 0;
    rolling_at_ = now;
    return true;
  }
  return kind.find("redis") != std::string::npos ? break_redis(kind, now) : break_node(kind, now);
}

void Faults::inject(double now) {
  if (deck_.empty()) {
    for (const char* kind : kKinds)
      if (possible(kind)) deck_.insert(deck_.begin() + static_cast<std::ptrdiff_t>(draw(deck_.size() + 1)), kind);
  }
  for (auto next = deck_.rbegin(); next != deck_.rend(); ++next) {
    const std::string kind = *next;
    if (!happen(kind, now)) continue;
    deck_.erase(std::next(next).base());
    ++counts_[kind];
    std::printf("  %6.1f s  %s\n", now, kind.c_str());
    std::fflush(stdout);
    return;
  }
}

void Faults::cut_link(Process& process, double now) {
  world_.links.set_up(process.link, false);
  process.cut_off = true;
  process.back_at = now + kCut;
}

void Faults::restore(Process& p) {
  p.back_at = -1;
  if (std::exchange(p.cut_off, false)) world_.links.set_up(p.link, true);
  if (p.frozen) p.signal(SIGCONT);
  if (!p.running()) p.start(world_.log_folder);
}

void Faults::write_nodes(const World& world, bool all) {
  std::ofstream file(world.nodes_file + ".new");
  for (std::size_t i = 0; i < world.nodes.size() - (all ? 0 : 1); ++i) {
    const Process& node = world.nodes[i];
    const bool standby = world.primaries > 0 && i >= world.primaries;
    file << fmt::format("{}={}:{}{}\n", node.name, node.host, node.port, standby ? ";priority=1" : "");
  }
  file.close();
  std::filesystem::rename(world.nodes_file + ".new", world.nodes_file);
}

void Faults::kill_primaries(double now) {
  ++counts_["kill primary group"];
  std::printf("  %6.1f s  kill primary group\n", now);
  for (std::size_t i = 0; i < world_.primaries; ++i) {
    world_.nodes[i].signal(SIGKILL);
    world_.nodes[i].back_at = now + 2 * kRestart;
  }
}

void Faults::roll(double now) {
  const std::size_t step = rolled_++ % (world_.nodes.size() + 2);
  const bool scale = step >= world_.nodes.size();
  if (scale) {
    const bool down = step == world_.nodes.size();
    write_nodes(world_, !down);
    ++counts_[down ? "scale down" : "scale up"];
  } else if (world_.nodes[step].running()) {
    ++counts_["restart node"];
    ask_node(world_.nodes[step], R"({"kind":"drain","ms":600000})");
    leaving_ = static_cast<int>(step);
    leave_at_ = now + kRollStep;
  }
}

void Faults::mend(double now) {
  for (auto* group : {&world_.nodes, &world_.gateways})
    for (Process& p : *group)
      if (p.back_at >= 0 && now >= p.back_at) restore(p);
  if (Process& redis = world_.redis; redis.back_at >= 0 && now >= redis.back_at) restore(redis);
  if (leaving_ >= 0 && now >= leave_at_) {
    Process& node = world_.nodes[static_cast<std::size_t>(std::exchange(leaving_, -1))];
    node.signal(SIGKILL);
    node.start(world_.log_folder);
  }
  if (rolling_at_ < 0 || now < rolling_at_) return;
  if (rolling_ > 0 && rolling_ <= world_.nodes.size()) {
    Process& drained = world_.nodes[rolling_ - 1];
    drained.signal(SIGKILL);
    restore(drained);
  }
  if (rolling_ >= world_.nodes.size()) {
    rolling_at_ = -1;
    return;
  }
  if (world_.fake_nodes && world_.nodes[rolling_].running() && !world_.nodes[rolling_].frozen)
    ask_node(world_.nodes[rolling_], R"({"kind":"drain","ms":60000})");
  ++rolling_;
  rolling_at_ = now + kRollStep;
}

void Faults::mend_all() {
  for (auto* group : {&world_.nodes, &world_.gateways})
    for (Process& p : *group) restore(p);
}

}  // namespace hp::chaos
