#include "cli/fleet_scaler.h"

#include <algorithm>

namespace hp::cli {
namespace {

constexpr std::chrono::seconds kWindow{30};
constexpr double kLongestPeriod = 5, kShortestPeriod = 0.5;  // seconds between decisions

}  // namespace

double quantile99(std::span<const double> bounds, std::span<const std::uint64_t> before,
                  std::span<const std::uint64_t> now) {
  const auto count = [&](std::size_t i) { return static_cast<double>(now[i] - before[i]); };
  const double total = count(now.size() - 1), wanted = 0.99 * total;
  if (total <= 0 || bounds.empty()) return 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    if (count(i) < wanted) continue;
    const double below = i == 0 ? 0 : count(i - 1), from = i == 0 ? 0 : bounds[i - 1];
    return from + (bounds[i] - from) * (wanted - below) / std::max(count(i) - below, 1e-9);
  }
  return bounds.back();
}

// Ten decisions in a quiet time, so that the law sees it whole.
FleetScaler::FleetScaler(const planner::ScalingPolicy& policy, double sequences_per_node)
    : policy_(policy),
      sequences_per_node_(sequences_per_node),
      period_(std::chrono::duration_cast<Duration>(
          std::chrono::duration<double>(std::clamp(policy.down_window_s / 10, kShortestPeriod, kLongestPeriod)))) {}

std::optional<int> FleetScaler::decide(TimePoint now, const gateway::GatewayLoad& load, const Nodes& nodes) {
  if (last_ && now - *last_ < period_) return std::nullopt;
  if (!first_) first_ = now;
  last_ = now;
  samples_.push_back({now, load.requests, load.first_tokens});
  while (samples_.size() > 2 && now - samples_[1].at >= kWindow) samples_.pop_front();
  const Sample& oldest = samples_.front();
  const double span = to_seconds(now - oldest.at);
  signals_ = {.now_s = to_seconds(now - *first_),
              .arrivals_per_s = span > 0 ? (load.requests - oldest.requests) / span : 0,
              .queued = load.waiting,
              .kv_usage = nodes.requests / std::max(1.0, nodes.ready * sequences_per_node_),
              .ttft_p99_s = quantile99(load.first_token_bounds, oldest.first_tokens, load.first_tokens),
              .ready = nodes.ready,
              .starting = std::max(0, nodes.wanted - nodes.ready)};
  const int want = wanted_replicas(policy_, state_, signals_);
  if (want == nodes.wanted) return std::nullopt;
  return want;
}

}  // namespace hp::cli
