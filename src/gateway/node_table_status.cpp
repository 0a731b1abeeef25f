// The node table's read side and its pace watchdog.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "gateway/node_state.h"
#include "gateway/stream_record.h"

namespace hp::gateway {
namespace {

constexpr std::string_view kHttps = "https://";

/// How long is too long, after the longest pause that a node has had of late.
Duration bound_of(double longest_ms, double factor, milliseconds unknown) {
  if (longest_ms == 0) return unknown;
  return std::clamp<Duration>(milliseconds(static_cast<std::int64_t>(longest_ms * factor)), kStallMin, kStallMax);
}

// What stands where an option should may be a key that slipped: it is not repeated into a log.
std::string shown(std::string_view word) {
  const bool plain = word.size() <= 16 && std::ranges::all_of(word, [](char c) { return c >= 'a' && c <= 'z'; });
  return plain ? fmt::format("'{}'", word) : "a word that is not shown here";
}

Status set_option(NodeConfig& node, std::string_view key, std::string_view value) {
  if (key == "kind" && (value == "homeport" || value == "openai")) {
    node.homeport = value == "homeport";
  } else if (key == "priority" || key == "capacity" || key == "concurrent") {
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    const bool ok = error == std::errc() && end == value.data() + value.size() && number >= 0 && number <= 1e6;
    if (!ok || (key == "capacity" && number == 0))
      return fail(ErrorCode::invalid_argument, "node '{}': its {} must be a positive number and nothing else",
                  node.name, key);
    if (key == "priority") {
      node.priority = static_cast<int>(number);
    } else if (key == "concurrent") {
      node.concurrent = static_cast<std::int64_t>(number);
    } else {
      node.capacity = number;
    }
  } else if (key == "admin") {
    node.admin = value;
  } else if (key == "gpu") {
    node.gpu_exporter = value;
  } else if (key == "key") {
    node.api_key = value;
  } else {
    return fail(ErrorCode::invalid_argument,
                "node '{}': its options are priority=, capacity=, concurrent=, kind=homeport|openai, key=, admin= and "
                "gpu=; found {}",
                node.name, shown(key));
  }
  return {};
}

}  // namespace

Result<NodeConfig> parse_node(std::string_view text) {
  NodeConfig node;
  std::string_view address = text.substr(0, text.find(';'));
  std::string_view options = address.size() < text.size() ? text.substr(address.size() + 1) : std::string_view();
  if (const auto equals = address.find('='); equals != std::string_view::npos) {
    node.name = address.substr(0, equals);
    address.remove_prefix(equals + 1);
  }
  if (address.starts_with("http://")) address.remove_prefix(7);
  if (address.starts_with(kHttps)) {
    node.tls = true;
    address.remove_prefix(kHttps.size());
  }
  while (address.ends_with('/') && !address.starts_with("unix:")) address.remove_suffix(1);
  if (address.starts_with("unix:")) {
    node.host = address;
  } else {
    const auto colon = address.rfind(':');
    const std::string_view port = colon == std::string_view::npos ? std::string_view() : address.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), node.port);
    if (error != std::errc() || end != port.data() + port.size() || node.port == 0 || colon == 0)
      return fail(ErrorCode::invalid_argument, "a node is 'host:port' or 'unix:/path', found '{}'", address);
    node.host = address.substr(0, colon);
    if (node.host.size() > 2 && node.host.front() == '[') node.host = node.host.substr(1, node.host.size() - 2);
  }
  if (node.name.empty()) node.name = address;
  while (!options.empty()) {
    const std::string_view option = options.substr(0, options.find(';'));
    options.remove_prefix(std::min(options.size(), option.size() + 1));
    const auto equals = option.find('=');
    HP_TRY_VOID(set_option(node, option.substr(0, equals),
                           equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1)));
  }
  return node;
}

void NodeTable::note_gap(NodeIndex node, Duration gap) {
  at(node).pause.note(gap, clock_.now(), mutex_);
}

std::uint32_t NodeTable::epoch(NodeIndex node) const {
  return at(node).epoch.load(std::memory_order_relaxed);
}

bool NodeTable::leaving(NodeIndex node) const {
  return at(node).leaving.load(std::memory_order_relaxed);
}

void NodeTable::touch(NodeIndex index, TimePoint now) {
  Node& node = at(index);
  const std::int64_t before = node.touched.exchange(now.time_since_epoch().count(), std::memory_order_relaxed);
  const bool was_silent = node.silent.exchange(false, std::memory_order_relaxed);
  if (before != 0 && !was_silent) node.quiet.note(now - TimePoint(Duration(before)), now, mutex_);
}

void NodeTable::excuse_silence(TimePoint now) {
  const std::uint32_t count = count_.load(std::memory_order_acquire);
  for (NodeIndex i = 0; i < count; ++i)
    if (!at(i).silent) at(i).touched.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

void NodeTable::note_progress(NodeIndex node, TimePoint now) {
  at(node).progressed.store(now.time_since_epoch().count(), std::memory_order_relaxed);
}

Duration NodeTable::standstill(NodeIndex node, TimePoint now) const {
  return now - TimePoint(Duration(at(node).progressed.load(std::memory_order_relaxed)));
}

Duration NodeTable::silence(NodeIndex index, TimePoint now) const {
  return now - TimePoint(Duration(at(index).touched.load(std::memory_order_relaxed)));
}

Duration NodeTable::stall_bound(NodeIndex index) const {
  return bound_of(at(index).pause.ms(clock_.now()), kStallFactor, kStallUnknown);
}

Duration NodeTable::silence_bound(NodeIndex index) const {
  return bound_of(at(index).quiet.ms(clock_.now()), kSilenceFactor, kSilenceIdle);
}

bool NodeTable::has_other(NodeIndex index, std::string_view model, std::string_view weights) {
  const std::lock_guard lock(mutex_);
  const TimePoint now = clock_.now();
  for (NodeIndex i = 0; i < owned_.size(); ++i) {
    const Node& node = *owned_[i];
    const bool may = node.models.empty() || std::ranges::find(node.models, model) != node.models.end();
    const bool same = weights.empty() || node.weights == weights;
    if (i != index && may && same && node.config.homeport && usable(node, now)) return true;
  }
  return false;
}

const NodeConfig& NodeTable::config(NodeIndex node) const {
  return at(node).config;  // never changes once the node is in the table
}

std::vector<NodeStatus> NodeTable::status() const {
  const std::lock_guard lock(mutex_);
  const TimePoint now = clock_.now();
  // What the next request would find; serving_ is what the last one found.
  std::optional<int> serving;
  const auto rank = [&](int group) {
    return group == steering_.prefer ? -2.0 : group == serving_ ? -1.0 : static_cast<double>(group);
  };
  for (const auto& node : owned_)
    if (usable(*node, now) && (!serving || rank(node->config.priority) < rank(*serving)))
      serving = node->config.priority;
  std::vector<NodeStatus> all;
  for (NodeIndex i = 0; i < owned_.size(); ++i) {
    const Node& node = *owned_[i];
    all.push_back({.config = node.config,
                   .ready = node.ready,
                   .draining = node.draining,
                   .removed = node.removed,
                   .held = node.held,
                   .serving = node.config.priority == serving || node.config.priority == steering_.beside,
                   .silent = node.silent,
                   .breaker = node.breaker.state(now),
                   .load_tokens = node.load_tokens,
                   .requests = node.requests,
                   .stall_bound_ms = to_seconds(stall_bound(i)) * 1000});
  }
  return all;
}

void NodeTable::steer(const Steering& steering) {
  const std::lock_guard lock(mutex_);
  steering_ = steering;
  better_since_ = {};
}

NodeTable::Steering NodeTable::steering() const {
  const std::lock_guard lock(mutex_);
  return steering_;
}

std::size_t NodeTable::usable() const {
  const std::lock_guard lock(mutex_);
  const TimePoint now = clock_.now();
  return static_cast<std::size_t>(std::ranges::count_if(owned_, [&](const auto& n) { return usable(*n, now); }));
}

std::vector<std::string> NodeTable::models() const {
  const std::lock_guard lock(mutex_);
  std::set<std::string> names;
  for (const auto& node : owned_)
    if (!node->removed) names.insert(node->models.begin(), node->models.end());
  return {names.begin(), names.end()};
}

void NodeTable::set_identity(NodeIndex node, std::string identity) {
  const std::lock_guard lock(mutex_);
  at(node).weights = weights_tag(identity);
  at(node).identity = std::move(identity);
}

std::string NodeTable::weights_of(NodeIndex node) const {
  const std::lock_guard lock(mutex_);
  return at(node).weights;
}

std::string NodeTable::identity(std::string_view model) const {
  const std::lock_guard lock(mutex_);
  std::string one;
  for (const auto& node : owned_) {
    const bool has = node->models.empty() || std::ranges::find(node->models, model) != node->models.end();
    if (node->removed || !has) continue;
    if (node->identity.empty() || (!one.empty() && one != node->identity)) return {};
    one = node->identity;
  }
  return one;
}

}  // namespace hp::gateway
