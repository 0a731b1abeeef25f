// A trace-driven simulation of a cluster under a scaling policy: requests arrive by a load curve (Poisson, seeded),
// wait for a replica, are prefilled, decoded in a batch. Deterministic: same curve, seed and policy, same figures.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "planner/autoscale.h"
#include "planner/document.h"

namespace hp::planner {

struct LoadCurve {
  std::string name;
  double step_s = 60;
  std::vector<double> requests_per_second;
  [[nodiscard]] double at(double seconds) const;
  [[nodiscard]] double peak() const;
};

/// daily, bursty (bursts that rise within 6 to 18 minutes), ramp, spikes (within 1 to 3, faster than a replica warms
/// up): shipped, one value a minute over a day, scaled to `peak_rps`.
std::vector<LoadCurve> shipped_curves(double peak_rps);
/// One number per line, evenly spaced over `span_s`; an access log's requests per second come from load_of_log.
Result<LoadCurve> curve_from_csv(std::string_view text, std::string_view source_name, double step_s);

/// A replica: what plan size predicted.
struct SimulatedReplica {
  double prefill_s = 0.25;   ///< one prompt
  double step_one_s = 0.02;  ///< decode step with one sequence
  double step_per_sequence_s = 0.0006;
  double output_tokens = 300;
  int max_sequences = 64;
  [[nodiscard]] double step_s(double sequences) const { return step_one_s + step_per_sequence_s * sequences; }
};

enum class Scaler { fixed, cpu_hpa, law };

struct SimulationInputs {
  SimulatedReplica replica;
  ScalingPolicy policy;
  Scaler scaler = Scaler::law;
  int fixed_replicas = 1;   ///< fixed
  double hpa_target = 0.7;  ///< cpu_hpa: desired = ready * busy / target, every 15 s, 300 s before shrinking
  double itl_target_s = 0.1;
  std::uint64_t seed = 1;
  double give_up_missed = 1e18, give_up_hours = 1e18;  ///< ends early beyond; the result then has attainment 0
};

struct SimulationResult {
  double slo_attainment = 0;  ///< share of requests with the first token in time
  double utilization = 0;     ///< carried load over what the provisioned replicas could carry
  double replica_hours = 0, mean_replicas = 0;
  double ttft_p50_s = 0, ttft_p99_s = 0;
  std::uint64_t requests = 0;
  int peak_replicas = 0;
};

SimulationResult simulate(const LoadCurve& curve, const SimulationInputs& inputs);

/// Each policy at the cheapest setting that reaches the attainment: the smallest fixed number, the largest HPA target,
/// the law's largest utilization target.
struct Comparison {
  std::string curve;
  SimulationResult fixed, hpa, law;
  double hpa_target = 0, law_target = 0, law_window_s = 0;
  int law_floor = 1;
  /// How much more of the bought capacity works, against fixed.
  [[nodiscard]] double gain() const { return law.utilization / fixed.utilization - 1; }
};
std::vector<Comparison> compare_scalers(const std::vector<LoadCurve>& curves, SimulationInputs inputs,
                                        double attainment);

Answer answer_autoscale(const std::vector<Comparison>& all, const SimulationInputs& inputs, double attainment,
                        Language language);

}  // namespace hp::planner
