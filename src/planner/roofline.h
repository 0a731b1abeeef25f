// How long one step of a model takes: per operation the larger of what it reads and what it computes, against what the
// machine was measured to reach. Pure functions; all times in seconds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "planner/accelerators.h"
#include "planner/model_costs.h"

namespace hp::planner {

/// Shares of the machine's limits that one engine reaches on one kind of machine with one weight format, and what it
/// spends besides. Calibrated (calibration.h).
struct Efficiency {
  double gemv_bandwidth = 0.6;   ///< one row
  double batch_bandwidth = 0.4;  ///< eight rows and more
  double gemv_compute = 0.3;     ///< share of the format's rate, one row
  double compute = 0.3;          ///< eight rows and more
  double attention = 0.2;        ///< share of the bf16 (CPU: fp32) rate
  double overlap = 1.5;          ///< p of (read^p + compute^p)^(1/p): 1 one after the other, large: perfect overlap
  double layer_seconds = 4e-5, moe_layer_seconds = 6e-5;  ///< launches and small operations, per step
  double row_seconds = 2e-5;  ///< sampling and copies of logits, per decoded token and 100,000 of vocabulary
};

struct Machine {
  Accelerator device;
  double count = 1;  ///< pieces that share one model (tensor parallel)
};

struct Step {
  double prefill_tokens = 0, prefill_context = 0;  ///< context: mean number of tokens that each sees
  double decode_rows = 0, decode_context = 0;
};

struct Operation {
  std::string_view name;
  double seconds = 0;
  double read_seconds = 0, compute_seconds = 0;
};

struct StepTime {
  std::vector<Operation> operations;
  [[nodiscard]] double seconds() const;
};

struct Placement {
  const ModelCosts* model = nullptr;
  const WeightFormat* format = nullptr;
  double kv_bytes_per_token = 0;
  Machine machine;
  Efficiency efficiency;
};

StepTime step_time(const Placement& placement, const Step& step);
double prefill_seconds(const Placement& placement, double tokens, double cached_tokens = 0);
double decode_step_seconds(const Placement& placement, double sequences, double context);
/// The dense rate in operations a second that the format can use on the device; a format wider than every unit falls
/// back to the next wider one. 0: the device cannot run it.
double rate_of(const Accelerator& device, WeightFormat::Rate rate);

}  // namespace hp::planner
