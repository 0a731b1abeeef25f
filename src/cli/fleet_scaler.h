// The scaling law at work: what the gateway in front of a local fleet sees becomes the law's signals, and its wish a
// number of nodes. Wiring between planner (the law), gateway and fleet; starts and stops nothing itself.
#pragma once

#include <deque>
#include <optional>

#include "base/clock.h"
#include "gateway/gateway.h"
#include "planner/autoscale.h"

namespace hp::cli {

class FleetScaler {
 public:
  FleetScaler(const planner::ScalingPolicy& policy, double sequences_per_node);

  /// How long a node takes from its start to readiness; until then the policy's own figure is used.
  void warmed_up_in(Duration time) { policy_.warmup_s = std::max(0.1, to_seconds(time)); }

  struct Nodes {
    int ready = 0, wanted = 1;
    double requests = 0;  ///< running on the ready ones
  };
  /// To be called a few times a second. The number of nodes to have from now on, when it differs from `nodes.wanted`.
  std::optional<int> decide(TimePoint now, const gateway::GatewayLoad& load, const Nodes& nodes);
  /// Of the last decision, for the log.
  [[nodiscard]] const planner::ScalingSignals& signals() const { return signals_; }

 private:
  struct Sample {
    TimePoint at;
    double requests;
    std::vector<std::uint64_t> first_tokens;
  };
  planner::ScalingPolicy policy_;
  double sequences_per_node_;
  Duration period_;
  planner::ScalingState state_;
  planner::ScalingSignals signals_;
  std::deque<Sample> samples_;
  std::optional<TimePoint> first_, last_;
};

/// The 0.99 quantile of what came between two cumulative readings; 0 when nothing did.
double quantile99(std::span<const double> bounds, std::span<const std::uint64_t> before,
                  std::span<const std::uint64_t> now);

}  // namespace hp::cli
