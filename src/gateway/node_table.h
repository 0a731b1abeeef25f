// Every node behind the gateway: what the configuration says of it, what it is doing, and which one gets the next
// request. Thread-safe; one short lock per dispatch and report, none per token. Talks to nobody: the prober and the
// streams report what they see.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "gateway/breaker.h"
#include "gateway/limits.h"
#include "gateway/node_config.h"
#include "gateway/prefix_index.h"
#include "gateway/route_policy.h"

namespace hp::gateway {

using NodeIndex = std::uint32_t;

struct NodeStatus {
  NodeConfig config;
  bool ready = false, draining = false, removed = false;
  bool held = false;     ///< taken out by an operator
  bool serving = false;  ///< its group gets the requests now
  bool silent = false;   ///< declared dead for its silence, and not a byte since
  BreakerState breaker = BreakerState::closed;
  std::int64_t load_tokens = 0, requests = 0;
  double stall_bound_ms = 0;
};

struct DispatchQuery {
  std::string_view model;
  const PrefixHashes* prefix = nullptr;
  std::uint64_t session_key = 0;
  std::int64_t cost_tokens = 1;
  std::uint64_t random = 0;
  std::optional<NodeIndex> avoid;  ///< only when another node can serve
  bool need_journal = false;       ///< a started stream goes on at Homeport nodes only, and is never kept waiting
  std::string_view weights = {};   ///< only nodes of these (weights_tag), of any group if need be; empty: any node
  bool* busy = nullptr;            ///< set when there are nodes, but all have as many requests as they may
};

class NodeTable {
 public:
  NodeTable(std::unique_ptr<RoutePolicy> policy, const Clock& clock, MetricsRegistry& metrics,
            Duration hand_back_after = kHandBackAfter);
  ~NodeTable();

  /// Nodes that are new are added, those that are gone get no more requests; streams on them go on until moved.
  void configure(const std::vector<NodeConfig>& nodes);
  void set_policy(std::unique_ptr<RoutePolicy> policy);

  /// Which groups serve: `prefer` before the one of the lowest priority, as long as it has a usable node; `beside`
  /// together with the one that serves.
  struct Steering {
    std::optional<int> prefer, beside;
  };
  void steer(const Steering& steering);
  [[nodiscard]] Steering steering() const;
  /// Decides which group serves, as a dispatch does; a few times a second, so that it changes without a request too.
  void review();
  /// Counts the cost on the chosen node at once; give it back with release().
  std::optional<NodeIndex> dispatch(const DispatchQuery& query);
  void release(NodeIndex node, std::int64_t cost_tokens), report(NodeIndex node, Outcome outcome);
  /// 429 or 503: no new requests for so long.
  void back_off(NodeIndex node, Duration pause);
  /// A broken node: its breaker opens and its streams leave (epoch() changes).
  void trip(NodeIndex node, std::string_view why);
  /// The same, and it gets nothing before a byte has come from it.
  void trip_silent(NodeIndex node, Duration silence);
  /// Out: no requests, and its streams move on; in: as before. False: no node has this name.
  bool hold(std::string_view name, bool out);
  /// Changes when the node is declared dead: its streams must leave.
  [[nodiscard]] std::uint32_t epoch(NodeIndex node) const;
  /// Draining or gone from the configuration: its streams go elsewhere when there is an elsewhere.
  [[nodiscard]] bool leaving(NodeIndex node) const;
  /// `models` as the node lists them; empty: not known, any request may go there.
  void set_ready(NodeIndex node, bool ready, bool draining, std::vector<std::string> models = {});
  /// What its answers depend on beside the request: weights and build.
  void set_identity(NodeIndex node, std::string identity);
  /// The one identity of all nodes that have the model; empty: unknown, or not one.
  [[nodiscard]] std::string identity(std::string_view model) const;
  [[nodiscard]] std::string weights_of(NodeIndex node) const;  ///< weights_tag() of its identity

  /// The pace watchdog. note_gap: a pause between two signs of progress. touch: any byte from the node.
  void note_gap(NodeIndex node, Duration gap);
  void touch(NodeIndex node, TimePoint now), note_progress(NodeIndex node, TimePoint now);
  /// This process stood still: no node's silence counts that nobody could have heard end.
  void excuse_silence(TimePoint now);
  [[nodiscard]] Duration silence(NodeIndex node, TimePoint now) const;
  /// Since the last progress of any stream on the node.
  [[nodiscard]] Duration standstill(NodeIndex node, TimePoint now) const;
  /// How long the streams of a node may stand still before it counts as dead.
  [[nodiscard]] Duration stall_bound(NodeIndex node) const;
  /// The same for not a single byte, of streams and probes together.
  [[nodiscard]] Duration silence_bound(NodeIndex node) const;
  /// Another node could take a request of this model now; with weights, one of the same.
  [[nodiscard]] bool has_other(NodeIndex node, std::string_view model, std::string_view weights = {});

  [[nodiscard]] const NodeConfig& config(NodeIndex node) const;
  [[nodiscard]] std::vector<NodeStatus> status() const;
  /// Rises whenever a node is lost: declared dead, or not ready any more.
  [[nodiscard]] std::uint64_t losses() const { return losses_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t usable() const;
  [[nodiscard]] std::vector<std::string> models() const;

 private:
  struct Node;
  [[nodiscard]] Node& at(NodeIndex node) const;
  [[nodiscard]] static bool usable(const Node& node, TimePoint now);
  std::optional<int> serving_priority(TimePoint now);
  void collect(const DispatchQuery& query, std::optional<int> priority, TimePoint now,
               std::vector<NodeView>& views) const;

  mutable std::mutex mutex_;
  std::unique_ptr<RoutePolicy> policy_;
  const Clock& clock_;
  MetricsRegistry& metrics_;
  const Duration hand_back_after_;
  Gauge& serving_gauge_;
  Counter& handovers_;
  std::unique_ptr<std::atomic<Node*>[]> nodes_;  // slots are never reused or freed before the end
  std::atomic<std::uint32_t> count_{0};
  std::atomic<std::uint64_t> losses_{0};
  std::deque<std::unique_ptr<Node>> owned_;
  PrefixIndex prefixes_;
  std::uint64_t sequence_ = 0;
  std::optional<int> serving_;
  bool asked_ = false;
  Steering steering_;
  TimePoint better_since_{};
};

}  // namespace hp::gateway
