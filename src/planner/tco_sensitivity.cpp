// How much each input moves the answer, and where the answer turns.
#include <algorithm>
#include <cmath>

#include "planner/tco.h"

namespace hp::planner {
namespace {

constexpr int kScanSteps = 240;
constexpr int kBisections = 60;

double difference_at(const TcoInputs& inputs, const InputField<TcoInputs>& field, double value) {
  TcoInputs in = inputs;
  in.*(field.member) = std::clamp(value, field.min, field.max);
  in.server_busy_kw = std::max(in.server_busy_kw, in.server_idle_kw);
  return local_minus_api(in);
}

/// The value between `a` (one sign) and `b` (the other) where the sign changes.
double bisect(const TcoInputs& inputs, const InputField<TcoInputs>& field, double a, double b) {
  const bool local_cheaper = difference_at(inputs, field, a) <= 0;
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (a + b) / 2;
    ((difference_at(inputs, field, middle) <= 0) == local_cheaper ? a : b) = middle;
  }
  return b;
}

/// Walks outwards from the present value, up and down in equal ratios (a factor of 100 each way), then to the limits.
std::optional<double> flip(const TcoInputs& inputs, const InputField<TcoInputs>& field) {
  const double start = inputs.*(field.member);
  const bool local_cheaper = difference_at(inputs, field, start) <= 0;
  double up = start, down = start;
  const double ratio = std::pow(100.0, 1.0 / kScanSteps);
  const double first = start > 0 ? start : std::min(field.max, 1.0) / 100;
  for (int i = 1; i <= kScanSteps; ++i) {
    const double next_up = std::min(field.max, first * std::pow(ratio, i));
    if ((difference_at(inputs, field, next_up) <= 0) != local_cheaper) return bisect(inputs, field, up, next_up);
    up = next_up;
    const double next_down = i == kScanSteps ? field.min : std::max(field.min, start / std::pow(ratio, i));
    if ((difference_at(inputs, field, next_down) <= 0) != local_cheaper) return bisect(inputs, field, down, next_down);
    down = next_down;
  }
  return std::nullopt;
}

}  // namespace

std::vector<Sensitivity> sensitivities(const TcoInputs& inputs) {
  const double base = local_minus_api(inputs);
  std::vector<Sensitivity> out;
  for (const InputField<TcoInputs>& field : tco_fields()) {
    const double value = inputs.*(field.member);
    out.push_back({.field = &field,
                   .value = value,
                   .change_low = difference_at(inputs, field, value * 0.8) - base,
                   .change_high = difference_at(inputs, field, value * 1.2) - base,
                   .flips_at = flip(inputs, field)});
  }
  const auto weight = [](const Sensitivity& s) { return std::max(std::fabs(s.change_low), std::fabs(s.change_high)); };
  std::stable_sort(out.begin(), out.end(), [&](const auto& a, const auto& b) { return weight(a) > weight(b); });
  return out;
}

}  // namespace hp::planner
