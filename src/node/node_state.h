// What the parts of one node share. Built by node_server.cpp; the model's members are written before `phase` leaves
// `loading` and only read after.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/access_log.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "net/event_loop.h"
#include "node/node_metrics.h"
#include "node/node_server.h"
#include "node/queue_estimate.h"
#include "node/replay_stream.h"
#include "node/stream_hub.h"

namespace hp {

enum class NodePhase : std::uint8_t { loading, ready, draining, failed };

struct NodeState {
  explicit NodeState(NodeOptions o) : options(std::move(o)), replays(options.detach_grace) {}

  const NodeOptions options;
  SteadyClock clock;
  MetricsRegistry metrics;
  std::vector<std::unique_ptr<net::EventLoop>> loops;  ///< before everything that posts to them
  ReplayRegistry replays;
  std::unique_ptr<StreamHub> hub;
  std::unique_ptr<TaskQueue> tasks;  ///< parsing and tokenizing of large requests

  NodeModel model;  ///< without its executor, which the engine owns
  std::vector<std::string> names;
  std::int64_t created = 0;  ///< when the model was ready, seconds since 1970
  std::unique_ptr<Engine> engine;
  std::unique_ptr<NodeMetrics> figures;
  std::string fingerprint;   ///< "fp_…" of weights, device and build
  std::int32_t context = 0;  ///< tokens of one sequence: the model's context, or what all KV blocks hold if less
  QueueEstimate queue;
  std::unique_ptr<AccessLog> access;  ///< null: none is wanted

  std::atomic<NodePhase> phase{NodePhase::loading};
  std::atomic<bool> refuse_new{false};  ///< draining, and the grace for load balancers is over
  std::atomic<std::int32_t> active{0};  ///< requests being answered

  /// A model is there and answers may be begun or finished.
  [[nodiscard]] bool has_model() const {
    const NodePhase p = phase.load(std::memory_order_acquire);
    return p == NodePhase::ready || p == NodePhase::draining;
  }
};

}  // namespace hp
