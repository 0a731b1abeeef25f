#include "planner/feasibility.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace hp::planner {
namespace {

using F = InputField<FeasibilityInputs>;
constexpr std::array<F, 4> kFields = {
    F{"workload",
      &FeasibilityInputs::workload,
      "x 10,000 requests a day",
      0,
      1e7,
      {"requests a day, in units of 10,000", "每日请求数（万次）"}},
    F{"sensitivity",
      &FeasibilityInputs::sensitivity,
      "",
      1,
      5,
      {"data sensitivity: 1 public, 5 must not leave the building", "数据敏感度：1 公开，5 不得外传"}},
    F{"cost",
      &FeasibilityInputs::cost,
      "",
      0,
      1,
      {"cost sensitivity: 0 money does not matter, 1 it decides", "成本敏感度：0 不在乎，1 完全由成本决定"}},
    F{"availability",
      &FeasibilityInputs::availability,
      "%",
      0,
      99.9999,
      {"share of the time that the service must answer; 0: no such need", "服务可用率要求（百分比）；0 表示无要求"}},
};

constexpr double kDaysPerMonth = 365.0 / 12;
constexpr double kMustStay = 5;

TcoInputs with_load(const TcoInputs& costs, double workload) {
  TcoInputs in = costs;
  in.requests_per_month = workload * 1e4 * kDaysPerMonth;
  return in;
}

/// What rented and hosted services are down may not be more than is allowed, as long as own machines are down less.
bool outside_too_rare(const FeasibilityInputs& inputs, const TcoInputs& costs) {
  const double allowed_hours = (1 - inputs.availability / 100) * 8760;
  return inputs.availability > 0 && costs.outage_hours_cloud > allowed_hours &&
         costs.outage_hours_local < costs.outage_hours_cloud;
}

bool local_wins(const FeasibilityInputs& inputs, const TcoInputs& prices, const TcoResult& costs) {
  if (outside_too_rare(inputs, prices)) return true;
  const std::optional<double> accepted = accepted_ratio(inputs.sensitivity, inputs.cost);
  return !accepted || costs.local.total() <= *accepted * std::min(costs.api.total(), costs.rented.total());
}

/// The smallest load at which own machines win, by scanning loads in equal ratios and bisecting the first hit.
std::optional<double> first_local_workload(const FeasibilityInputs& inputs, const TcoInputs& costs) {
  const auto wins = [&](double w) {
    const TcoInputs in = with_load(costs, w);
    return validate(in).has_value() && local_wins(inputs, in, total_cost(in));
  };
  if (wins(0)) return 0.0;
  double below = 0;
  for (double w = 0.01; w < 1e6; w *= 1.1) {
    if (!wins(w)) {
      below = w;
      continue;
    }
    double above = w;
    for (int i = 0; i < 40; ++i) {
      const double middle = (below + above) / 2;
      (wins(middle) ? above : below) = middle;
    }
    return above;
  }
  return std::nullopt;
}

}  // namespace

std::span<const InputField<FeasibilityInputs>> feasibility_fields() {
  return kFields;
}

Status validate(const FeasibilityInputs& inputs) {
  return check_inputs(feasibility_fields(), inputs);
}

double published_index(const FeasibilityInputs& in) {
  return std::clamp(0.4 * (1 - std::min(in.workload / 50, 1.0)) + 0.3 * (in.sensitivity / 5) - 0.3 * in.cost, 0.0, 1.0);
}

std::string_view to_string(Choice choice) {
  switch (choice) {
    case Choice::local:
      return "local";
    case Choice::rented:
      return "rented";
    case Choice::api:
      break;
  }
  return "api";
}

std::optional<double> accepted_ratio(double sensitivity, double cost) {
  if (sensitivity >= kMustStay) return std::nullopt;
  // 1 at sensitivity 1, doubling with every point; whoever lives by cost alone pays no premium.
  return 1 + (std::exp2(sensitivity - 1) - 1) * (1 - cost);
}

Verdict judge(const FeasibilityInputs& inputs, const TcoInputs& costs) {
  Verdict out;
  out.costs = total_cost(with_load(costs, inputs.workload));
  const double api = out.costs.api.total(), rented = out.costs.rented.total();
  out.ratio = out.costs.local.total() / std::max(std::min(api, rented), 1.0);
  out.accepted = accepted_ratio(inputs.sensitivity, inputs.cost);
  out.outside_too_rare = outside_too_rare(inputs, costs);
  out.choice = local_wins(inputs, costs, out.costs) ? Choice::local : api <= rented ? Choice::api : Choice::rented;
  out.from_workload = first_local_workload(inputs, costs);
  return out;
}

}  // namespace hp::planner
