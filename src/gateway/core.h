// What all loops of one gateway share, and what one loop has for itself.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_set>

#include "base/access_log.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "gateway/admission.h"
#include "gateway/business.h"
#include "gateway/flight_board.h"
#include "gateway/hedging.h"
#include "gateway/node_table.h"
#include "gateway/options.h"
#include "gateway/reply_cache.h"
#include "gateway/retry_budget.h"
#include "gateway/shared_journal.h"
#include "gateway/shared_quota.h"
#include "gateway/side_door.h"
#include "gateway/stream_store.h"
#include "gateway/wait_queue.h"
#include "net/http_client.h"
#include "store/redis.h"

namespace hp::gateway {

class FlightFollower;
class Relay;
class Replay;

struct GatewayMetrics {
  explicit GatewayMetrics(MetricsRegistry& registry);
  Counter &requests, &streams, &resumes, &stalls, &retries, &retries_refused, &given_up, &client_gone, &reattached,
      &deadline_refused, &deadline_expired, &queue_full, &hedges, &hedges_won, &hedges_refused;
  Counter &prompt_tokens, &completion_tokens;
  Gauge &open, &waiting;
  Histogram &first_token, &gap, &resume_gap, &queued;
};

struct Core {
  /// `redis` may be null.
  Core(GatewayOptions o, std::unique_ptr<RoutePolicy> policy, std::unique_ptr<store::Redis> redis,
       MetricsRegistry& registry);
  ~Core();

  bool take_retry() {
    const std::lock_guard lock(retry_mutex);
    return retry_budget.take();
  }
  void earn_retry() {
    const std::lock_guard lock(retry_mutex);
    retry_budget.on_request();
    hedging.on_request();
  }

  const GatewayOptions options;
  SteadyClock clock;
  MetricsRegistry& registry;
  GatewayMetrics metrics;
  Business business;
  NodeTable nodes;
  const std::unique_ptr<store::Redis> redis;  ///< null: none
  StreamStore streams;
  ReplyCache replies;
  Admission admission;
  WaitQueue queue;
  std::mutex retry_mutex;
  RetryBudget retry_budget;
  Hedging hedging;
  std::atomic<bool> draining{false};
  std::atomic<std::shared_ptr<const SideDoor>> side_door;
  const std::string inside_authorization;  ///< random: what comes through the side door bears it
  std::unique_ptr<AccessLog> access;       ///< null: none is wanted
  std::unique_ptr<SharedJournal> shared;   ///< null: no Redis
  std::unique_ptr<SharedQuota> quota;      ///< null: no Redis
  std::unique_ptr<FlightBoard> flights;    ///< null: no Redis
};

/// One event loop with its server, its client and the requests it serves.
struct Shard {
  Core& core;
  std::unique_ptr<net::EventLoop> loop;
  std::unique_ptr<net::HttpClient> client;
  std::unique_ptr<net::HttpServer> server;
  std::unordered_set<std::shared_ptr<Relay>> relays = {};              // loop only
  std::unordered_set<std::shared_ptr<Replay>> replays = {};            // loop only
  std::unordered_set<std::shared_ptr<FlightFollower>> followers = {};  // loop only
  TimePoint swept_at{};                                                // loop only

  /// This process was frozen or starved: what looks like a node's pause is our own.
  [[nodiscard]] bool was_paused(TimePoint now) const { return now - swept_at > kOwnPause; }
  /// A byte came from the node.
  void heard(NodeIndex node, TimePoint now) {
    if (was_paused(now)) core.nodes.excuse_silence(now);
    core.nodes.touch(node, now);
  }
};

}  // namespace hp::gateway
