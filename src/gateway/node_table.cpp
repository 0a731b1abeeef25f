#include "gateway/node_table.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "gateway/node_state.h"

namespace hp::gateway {
namespace {
constexpr Duration kSlowStart = std::chrono::seconds(10);
constexpr double kSlowStartFloor = 0.1;
constexpr Duration kOneFailure = std::chrono::milliseconds(50);
}  // namespace

NodeTable::NodeTable(std::unique_ptr<RoutePolicy> policy, const Clock& clock, MetricsRegistry& metrics,
                     Duration hand_back_after)
    : policy_(std::move(policy)),
      clock_(clock),
      metrics_(metrics),
      hand_back_after_(hand_back_after),
      serving_gauge_(metrics.gauge("homeport_gateway_serving_priority", "Priority of the group that gets requests")),
      handovers_(metrics.counter("homeport_gateway_handovers_total", "Times that another group took the load over")),
      nodes_(new std::atomic<Node*>[kMaxNodes]()) {}

NodeTable::~NodeTable() = default;

NodeTable::Node& NodeTable::at(NodeIndex node) const {
  HP_CHECK(node < count_.load(std::memory_order_acquire), "node {}", node);
  return *nodes_[node].load(std::memory_order_acquire);
}

void NodeTable::configure(const std::vector<NodeConfig>& nodes) {
  const std::lock_guard lock(mutex_);
  for (const auto& node : owned_) {
    const bool kept = std::ranges::find(nodes, node->config) != nodes.end();
    if (!kept && !node->removed) {
      node->removed = true;
      log::info("gateway: node {} left the configuration", node->config.name);
    }
    if (kept) node->removed = false;
    node->leaving = node->removed || node->draining || node->held;
  }
  for (const NodeConfig& config : nodes) {
    if (std::ranges::any_of(owned_, [&](const auto& n) { return n->config == config; })) continue;
    if (owned_.size() >= kMaxNodes) {
      log::error("gateway: more than {} nodes over time; {} is left out: restart the gateway", kMaxNodes, config.name);
      continue;
    }
    owned_.push_back(std::make_unique<Node>(config, metrics_));
    nodes_[owned_.size() - 1].store(owned_.back().get(), std::memory_order_release);
    count_.store(static_cast<std::uint32_t>(owned_.size()), std::memory_order_release);
  }
}

void NodeTable::set_policy(std::unique_ptr<RoutePolicy> policy) {
  const std::lock_guard lock(mutex_);
  policy_ = std::move(policy);
}

bool NodeTable::usable(const Node& node, TimePoint now) {
  return node.ready && !node.draining && !node.removed && !node.held && !node.silent && node.breaker.allows(now);
}

// A standby group takes over at once and hands back only after the better group was usable for a while.
std::optional<int> NodeTable::serving_priority(TimePoint now) {
  std::optional<int> best;
  bool current_usable = false;
  for (const auto& node : owned_) {
    if (!usable(*node, now)) continue;
    const bool preferred = best != steering_.prefer && node->config.priority == steering_.prefer;
    if (!best || preferred || (best != steering_.prefer && node->config.priority < *best)) best = node->config.priority;
    current_usable = current_usable || node->config.priority == serving_;
  }
  if (!best || best == serving_) {
    better_since_ = {};
    if (best) serving_ = best;
    return best;
  }
  if (serving_ && *best < *serving_ && current_usable && best != steering_.prefer) {
    if (better_since_ == TimePoint{}) better_since_ = now;
    if (now - better_since_ < hand_back_after_) return serving_;
  }
  if (serving_) {
    log::warn("gateway: the nodes of priority {} take over from priority {}", *best, *serving_);
    handovers_.add();
  }
  serving_ = best;
  serving_gauge_.set(*best);
  better_since_ = {};
  return best;
}

void NodeTable::review() {
  const std::lock_guard lock(mutex_);
  if (!asked_) serving_.reset();  // nobody was served yet: the best group starts, whichever was ready first
  serving_priority(clock_.now());
}

// Without a priority: the nodes of every group.
void NodeTable::collect(const DispatchQuery& query, std::optional<int> priority, TimePoint now,
                        std::vector<NodeView>& views) const {
  views.clear();
  views.reserve(owned_.size());
  bool any_lists_it = false;
  for (NodeIndex i = 0; i < owned_.size(); ++i) {
    const Node& node = *owned_[i];
    const bool serves = !priority || node.config.priority == priority || node.config.priority == steering_.beside;
    if (!usable(node, now) || !serves || now < node.resting_until) continue;
    if (query.need_journal && !node.config.homeport) continue;
    if (!query.weights.empty() && node.weights != query.weights) continue;
    if (!query.need_journal && node.config.concurrent > 0 && node.requests >= node.config.concurrent) {
      if (query.busy != nullptr) *query.busy = true;
      continue;
    }
    const bool lists_it = std::ranges::find(node.models, query.model) != node.models.end();
    if (lists_it && !any_lists_it) {
      any_lists_it = true;
      views.clear();  // a node that has the model beats those that may answer 404
    }
    if (any_lists_it && !lists_it) continue;
    const double age = to_seconds(now - node.ready_since) / to_seconds(kSlowStart);
    views.push_back({.node = i,
                     .name_hash = node.name_hash,
                     .weight = node.config.capacity * std::clamp(age, kSlowStartFloor, 1.0),
                     .load_tokens = node.load_tokens,
                     .recent_tokens = node.recent_tokens});
  }
  if (query.avoid && views.size() > 1) std::erase_if(views, [&](const NodeView& v) { return v.node == *query.avoid; });
}

std::optional<NodeIndex> NodeTable::dispatch(const DispatchQuery& query) {
  const std::lock_guard lock(mutex_);
  const TimePoint now = clock_.now();
  const auto priority = serving_priority(now);
  if (!priority) return std::nullopt;
  asked_ = true;
  for (const auto& node : owned_) node->decay_recent(now);
  std::vector<NodeView> views;
  collect(query, *priority, now, views);
  // A started stream keeps its weights even where the requests now go to a group with others.
  if (views.empty() && !query.weights.empty()) collect(query, std::nullopt, now, views);
  if (views.empty()) return std::nullopt;
  RouteQuery route{.cost_tokens = query.cost_tokens,
                   .session_key = query.session_key,
                   .sequence = sequence_++,
                   .random = query.random};
  if (query.prefix != nullptr && query.prefix->count > 0) {
    route.prefix_key = query.prefix->hashes[0];
    std::vector<std::uint32_t> matched(owned_.size());
    prefixes_.match(*query.prefix, matched);
    for (NodeView& view : views) view.matched_bytes = matched[view.node];
  }
  const std::size_t pick = policy_->pick(route, views);
  HP_CHECK(pick < views.size(), "{} picked {} of {}", policy_->name(), pick, views.size());
  const NodeIndex index = views[pick].node;
  Node& node = *owned_[index];
  node.breaker.acquire(now);
  node.load_tokens += query.cost_tokens;
  node.recent_tokens += static_cast<double>(query.cost_tokens);
  ++node.requests;
  node.load.set(static_cast<double>(node.load_tokens));
  node.dispatched.add();
  if (query.prefix != nullptr) prefixes_.insert(*query.prefix, index);
  return index;
}

void NodeTable::release(NodeIndex index, std::int64_t cost_tokens) {
  const std::lock_guard lock(mutex_);
  Node& node = at(index);
  node.load_tokens -= cost_tokens;
  --node.requests;
  HP_CHECK(node.load_tokens >= 0 && node.requests >= 0, "node {} gave back more than it took", node.config.name);
  node.load.set(static_cast<double>(node.load_tokens));
}

void NodeTable::report(NodeIndex index, Outcome outcome) {
  const std::lock_guard lock(mutex_);
  Node& node = at(index);
  const TimePoint now = clock_.now();
  const bool was_open = node.breaker.state(now) == BreakerState::open;
  if (outcome == Outcome::failure) {  // streams that break in one moment are one event
    if (now - node.failed_at < kOneFailure) return;
    node.failed_at = now;
  }
  node.breaker.report(outcome, now);
  if (!was_open && node.breaker.state(now) == BreakerState::open)
    log::warn("gateway: node {} fails; it gets no requests for a while", node.config.name);
}

void NodeTable::back_off(NodeIndex index, Duration pause) {
  const std::lock_guard lock(mutex_);
  Node& node = at(index);
  node.resting_until = std::max(node.resting_until, clock_.now() + pause);
}

void NodeTable::trip(NodeIndex index, std::string_view why) {
  const std::lock_guard lock(mutex_);
  Node& node = at(index);
  const TimePoint now = clock_.now();
  if (node.breaker.state(now) != BreakerState::open) {
    log::warn("gateway: node {} is taken for dead: {}", node.config.name, why);
    node.trips.add();
  }
  node.breaker.trip(now);
  node.epoch.fetch_add(1, std::memory_order_relaxed);
  losses_.fetch_add(1, std::memory_order_relaxed);
}

void NodeTable::trip_silent(NodeIndex node, Duration silence) {
  at(node).silent = true;
  trip(node, fmt::format("no byte for {:.1f} s", to_seconds(silence)));
}

bool NodeTable::hold(std::string_view name, bool out) {
  const std::lock_guard lock(mutex_);
  bool found = false;
  for (const auto& node : owned_) {
    if (node->removed || node->config.name != name) continue;
    found = true;
    node->held = out;
    node->leaving = node->draining || out;
    log::info("gateway: node {} is taken {} by the operator", name, out ? "out" : "back");
  }
  return found;
}

void NodeTable::set_ready(NodeIndex index, bool ready, bool draining, std::vector<std::string> models) {
  const std::lock_guard lock(mutex_);
  Node& node = at(index);
  if (ready && !node.ready) {
    node.ready_since = clock_.now();
    node.breaker.reset();
    node.quiet.forget();  // it was away: that says nothing of its pace
    log::info("gateway: node {} is ready", node.config.name);
  }
  if (!ready && node.ready) {
    prefixes_.forget(index);
    losses_.fetch_add(1, std::memory_order_relaxed);
    log::warn("gateway: node {} is {}", node.config.name, draining ? "draining" : "not ready");
  }
  node.ready = ready;
  node.draining = draining;
  node.leaving = node.removed || draining || node.held;
  if (!models.empty()) node.models = std::move(models);
  node.up.set(usable(node, clock_.now()) ? 1 : 0);
}

}  // namespace hp::gateway
