// The scaling law: how many replicas to want, from queue, KV use, latency against target and the trend of the load,
// with the warm-up time known. Up at once, down slowly. A pure function over plain state; the simulator, the local
// fleet and the exported KEDA and HPA objects share its numbers.
#pragma once

#include <deque>

namespace hp::planner {

struct ScalingPolicy {
  int min_replicas = 1, max_replicas = 64;
  double replica_rps = 1.9;  ///< what one replica carries within its targets (plan size)
  double utilization_target = 0.8;
  double ttft_target_s = 2;
  double queue_per_replica = 2;  ///< waiting requests per ready replica that are normal
  double kv_target = 0.85;
  double warmup_s = 120;       ///< from asking for a replica to its first token
  double down_window_s = 300;  ///< shrinks to the largest wish within this time
  double down_step_s = 60;     ///< at most one replica less per this time
};

/// What the gateway sees, at one moment.
struct ScalingSignals {
  double now_s = 0;
  double arrivals_per_s = 0;  ///< mean over the last half minute
  double queued = 0, kv_usage = 0, ttft_p99_s = 0;
  int ready = 1, starting = 0;
};

/// What the law remembers between calls.
struct ScalingState {
  struct Sample {
    double at_s = 0, value = 0;
  };
  std::deque<Sample> arrivals, wishes;
  double peak = 0;  ///< highest arrivals seen, fading within days
  double last_down_s = -1e18;
};

/// The wish without memory: the largest of the reasons, not clamped.
double wanted_now(const ScalingPolicy& policy, const ScalingState& state, const ScalingSignals& signals);
/// The number of replicas (ready and starting together) to have from now on. A clock that steps back forgets the past.
int wanted_replicas(const ScalingPolicy& policy, ScalingState& state, const ScalingSignals& signals);

}  // namespace hp::planner
