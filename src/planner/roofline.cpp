#include "planner/roofline.h"

#include <algorithm>
#include <cmath>

namespace hp::planner {
namespace {

// Between several devices: share of the link's peak that an all-reduce reaches, and its latency. Not calibrated: the
// machines measured so far had one device.
constexpr double kLinkShare = 0.6;
constexpr double kFastLink = 200;  // GB/s; below: PCIe
constexpr double kFastLatency = 1e-5, kSlowLatency = 3e-5;

struct Rows {
  double all = 0, head = 0;
};

class Roofline {
 public:
  explicit Roofline(const Placement& placement) : placement_(placement), e_(placement.efficiency) {
    const Accelerator& d = placement.machine.device;
    bandwidth_ = d.bandwidth * 1e9 * placement.machine.count;
    rate_ = rate_of(d, placement.format->rate) * placement.machine.count;
    // CPUs compute attention in fp32, accelerators in 16 bits.
    attention_rate_ = (d.kind == Accelerator::Kind::cpu ? d.fp32 : d.bf16) * 1e12 * placement.machine.count;
  }

  [[nodiscard]] double overlapped(double read, double compute) const {
    return std::pow(std::pow(read, e_.overlap) + std::pow(compute, e_.overlap), 1 / e_.overlap);
  }

  /// `read` parameters are streamed once, `rows` tokens are multiplied with `multiplied` parameters each.
  void product(std::string_view name, double read_params, double bytes_per_param, double multiplied, double rows) {
    if (read_params <= 0 || rows <= 0) return;
    // From one row's vector product to the tiles of a batch in equal steps of log2(rows).
    const double mix = std::clamp(std::log2(std::max(rows, 1.0)) / 3, 0.0, 1.0);
    const double share = e_.gemv_bandwidth * (1 - mix) + e_.batch_bandwidth * mix;
    const double compute = e_.gemv_compute * (1 - mix) + e_.compute * mix;
    add(name, read_params * bytes_per_param / (bandwidth_ * share), 2 * multiplied * rows / (rate_ * compute));
  }

  void attention(const Step& step) {
    const double contexts = step.decode_rows * step.decode_context;
    const double read =
        (contexts + step.prefill_tokens) * placement_.kv_bytes_per_token / (bandwidth_ * e_.gemv_bandwidth);
    const double pairs = contexts + step.prefill_tokens * step.prefill_context;
    add("attention", read, pairs * placement_.model->attention_flops_per_context / (attention_rate_ * e_.attention));
  }

  void fixed(std::string_view name, double seconds) {
    if (seconds > 0) time_.operations.push_back({name, seconds, 0, 0});
  }

  void all_reduce(double rows) {
    const double n = placement_.machine.count;
    if (n <= 1) return;
    const double link = placement_.machine.device.link;
    const double bytes = 2 * (n - 1) / n * rows * placement_.model->config.hidden * 2;
    const double once = bytes / (link / 2 * 1e9 * kLinkShare) + (link >= kFastLink ? kFastLatency : kSlowLatency);
    fixed("all-reduce", 2 * placement_.model->layers * once);
  }

  StepTime time_;

 private:
  void add(std::string_view name, double read, double compute) {
    time_.operations.push_back({name, overlapped(read, compute), read, compute});
  }

  const Placement& placement_;
  const Efficiency& e_;
  double bandwidth_ = 0, rate_ = 0, attention_rate_ = 0;
};

}  // namespace

double rate_of(const Accelerator& d, WeightFormat::Rate rate) {
  switch (rate) {
    case WeightFormat::Rate::fp32:
      return d.fp32 * 1e12;
    case WeightFormat::Rate::bf16:
      return d.bf16 * 1e12;
    case WeightFormat::Rate::fp8:
      return (d.fp8 > 0 ? d.fp8 : d.bf16) * 1e12;  // weights are widened, the products run in bf16
    case WeightFormat::Rate::int8:
      return (d.int8 > 0 ? d.int8 : d.bf16) * 1e12;
  }
  return 0;
}

double StepTime::seconds() const {
  double sum = 0;
  for (const Operation& operation : operations) sum += operation.seconds;
  return sum;
}

StepTime step_time(const Placement& placement, const Step& step) {
  const ModelCosts& m = *placement.model;
  const WeightFormat& f = *placement.format;
  const double rows = step.prefill_tokens + step.decode_rows;
  Roofline line(placement);
  line.product("attention projections", m.attention, f.layer_bytes, m.attention, rows);
  line.attention(step);
  line.product("dense FFN", m.dense_ffn, f.layer_bytes, m.dense_ffn, rows);
  line.product("shared experts", m.shared_experts + m.router, f.layer_bytes, m.shared_experts + m.router, rows);
  if (m.experts > 0) {
    const double touched = m.touched_experts(rows);
    line.product("routed experts", m.one_expert * touched, f.layer_bytes, m.one_expert * m.experts_per_token, rows);
  }
  // Only tokens that are sampled from reach the head: every decode row and the end of a prefill.
  const double head_rows = step.decode_rows + (step.prefill_tokens > 0 ? 1 : 0);
  line.product("output head", m.head, f.head_bytes, m.head, head_rows);
  line.all_reduce(rows);
  line.fixed("layers",
             m.layers * placement.efficiency.layer_seconds + m.moe_layers * placement.efficiency.moe_layer_seconds);
  line.fixed("sampling", step.decode_rows * placement.efficiency.row_seconds * m.config.vocab / 1e5);
  return std::move(line.time_);
}

double prefill_seconds(const Placement& placement, double tokens, double cached_tokens) {
  const double fresh = std::max(tokens - cached_tokens, 1.0);
  return step_time(placement, {.prefill_tokens = fresh, .prefill_context = cached_tokens + fresh / 2}).seconds();
}

double decode_step_seconds(const Placement& placement, double sequences, double context) {
  return step_time(placement, {.decode_rows = sequences, .decode_context = context}).seconds();
}

}  // namespace hp::planner
