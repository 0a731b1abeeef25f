// One node as the table keeps it. Private to node_table*.cpp.
#pragma once

#include <cmath>

#include "gateway/node_table.h"

namespace hp::gateway {

/// The longest of many recent pauses: halves every 20 seconds.
class Longest {
 public:
  [[nodiscard]] double ms(TimePoint now) const {
    return value_ms_.load(std::memory_order_relaxed) *
           std::exp2(-to_seconds(now - TimePoint(Duration(at_.load(std::memory_order_relaxed)))) / kHalfLifeSeconds);
  }
  void note(Duration pause, TimePoint now, std::mutex& mutex) {
    const double pause_ms = to_seconds(pause) * 1000;
    if (pause_ms <= ms(now)) return;
    const std::lock_guard lock(mutex);
    value_ms_.store(pause_ms, std::memory_order_relaxed);
    at_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  }
  void forget() { value_ms_.store(0, std::memory_order_relaxed); }

 private:
  static constexpr double kHalfLifeSeconds = 20;
  std::atomic<double> value_ms_{0};
  std::atomic<std::int64_t> at_{0};
};

struct NodeTable::Node {
  explicit Node(NodeConfig c, MetricsRegistry& metrics)
      : config(std::move(c)),
        name_hash(hash_text(config.name)),
        dispatched(
            metrics.counter("homeport_gateway_dispatched_total", "Requests sent to a node", {{"node", config.name}})),
        load(metrics.gauge("homeport_gateway_node_load_tokens", "Outstanding tokens, counted at dispatch",
                           {{"node", config.name}})),
        up(metrics.gauge("homeport_gateway_node_usable", "1: the node gets requests", {{"node", config.name}})),
        trips(metrics.counter("homeport_gateway_node_trips_total", "Times a node was declared dead",
                              {{"node", config.name}})) {}
  NodeConfig config;
  std::uint64_t name_hash;
  Breaker breaker;
  std::vector<std::string> models;
  std::string identity, weights;  // of weights and build, and its tag; empty: not known
  std::int64_t load_tokens = 0, requests = 0;
  double recent_tokens = 0;
  TimePoint recent_at{};
  void decay_recent(TimePoint now) {
    recent_tokens *= std::exp2(-to_seconds(now - recent_at) / 30);
    recent_at = now;
  }
  bool ready = false, draining = false, removed = false, held = false;
  TimePoint ready_since{}, resting_until{};
  TimePoint failed_at{std::chrono::hours(-1)};
  Longest pause, quiet;  // between two signs of progress, and between any two bytes
  std::atomic<bool> silent{false};
  std::atomic<std::uint32_t> epoch{0};
  std::atomic<bool> leaving{false};
  std::atomic<std::int64_t> touched{0}, progressed{0};
  Counter& dispatched;
  Gauge& load;
  Gauge& up;
  Counter& trips;
};

}  // namespace hp::gateway
