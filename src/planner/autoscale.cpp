#include "planner/autoscale.h"

#include <algorithm>
#include <cmath>

namespace hp::planner {
namespace {

constexpr double kTrendWindow = 180;  // seconds of arrivals that the trend looks at
constexpr double kPeakFade = 2 * 86400.0;
constexpr double kBeyondPeak = 1.2;     // how far above anything seen the trend may look
constexpr double kLatencyGrowth = 1.5;  // at most this factor at once because of latency alone

/// Least-squares slope of the arrivals, in requests/s per second; 0 with too little to see one.
double trend(const std::deque<ScalingState::Sample>& samples) {
  if (samples.size() < 4) return 0;
  const double n = static_cast<double>(samples.size());
  double sx = 0, sy = 0, sxx = 0, sxy = 0;
  const double origin = samples.front().at_s;
  for (const ScalingState::Sample& s : samples) {
    const double x = s.at_s - origin;
    sx += x, sy += s.value, sxx += x * x, sxy += x * s.value;
  }
  const double spread = n * sxx - sx * sx;
  return spread <= 0 ? 0 : (n * sxy - sx * sy) / spread;
}

void forget_before(std::deque<ScalingState::Sample>& samples, double at_s) {
  while (!samples.empty() && samples.front().at_s < at_s) samples.pop_front();
}

}  // namespace

double wanted_now(const ScalingPolicy& policy, const ScalingState& state, const ScalingSignals& s) {
  const double ready = std::max(1, s.ready);
  // The load expected when a replica asked for now would be warm; a falling trend is not trusted.
  const double expected = std::min(s.arrivals_per_s + std::max(0.0, trend(state.arrivals)) * policy.warmup_s,
                                   kBeyondPeak * std::max(state.peak, s.arrivals_per_s));
  double want = expected / (policy.replica_rps * policy.utilization_target);
  if (const double excess = s.queued - policy.queue_per_replica * ready; excess > 0)
    want = std::max(want, ready + excess / (policy.replica_rps * policy.warmup_s));
  if (s.kv_usage > policy.kv_target) want = std::max(want, ready * s.kv_usage / policy.kv_target);
  if (s.ttft_p99_s > policy.ttft_target_s)
    want = std::max(want, ready * std::min(kLatencyGrowth, s.ttft_p99_s / policy.ttft_target_s));
  return want;
}

int wanted_replicas(const ScalingPolicy& policy, ScalingState& state, const ScalingSignals& s) {
  if (!state.arrivals.empty() && s.now_s < state.arrivals.back().at_s) state = {};
  const double since = state.arrivals.empty() ? 0 : s.now_s - state.arrivals.back().at_s;
  state.peak = std::max(s.arrivals_per_s, state.peak * std::exp(-since / kPeakFade));
  state.arrivals.push_back({s.now_s, s.arrivals_per_s});
  forget_before(state.arrivals, s.now_s - kTrendWindow);
  const double clamped = std::clamp(std::ceil(wanted_now(policy, state, s) - 1e-9),
                                    static_cast<double>(policy.min_replicas), static_cast<double>(policy.max_replicas));
  state.wishes.push_back({s.now_s, clamped});
  forget_before(state.wishes, s.now_s - policy.down_window_s);
  const int have = s.ready + s.starting;
  if (const int want = static_cast<int>(clamped); want >= have) return want;
  double largest = 0;
  for (const ScalingState::Sample& wish : state.wishes) largest = std::max(largest, wish.value);
  // Never below what the recent past asked for, one replica at a time, and only with the window's evidence complete.
  const bool seen_enough = s.now_s - state.wishes.front().at_s >= policy.down_window_s * 0.9;
  if (!seen_enough || largest >= have || s.now_s - state.last_down_s < policy.down_step_s) return have;
  state.last_down_s = s.now_s;
  return have - 1;
}

}  // namespace hp::planner
