// Should we deploy locally? The published index exactly as published, what is wrong with it, and the verdict that the
// cost model supports.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "planner/document.h"
#include "planner/tco.h"

namespace hp::planner {

struct FeasibilityInputs {
  double workload = 0;      ///< requests a day in units of 10,000
  double sensitivity = 3;   ///< of the data, 1 (public) to 5 (must not leave the building)
  double cost = 0.5;        ///< how much money matters, 0 to 1
  double availability = 0;  ///< percent of the time that the service must answer; 0: outages cost what they cost
};

std::span<const InputField<FeasibilityInputs>> feasibility_fields();
Status validate(const FeasibilityInputs& inputs);

inline constexpr double kPublishedThreshold = 0.7;  ///< "start local deployment above"
/// clamp(0.4 (1 - min(w/50, 1)) + 0.3 (s/5) - 0.3 c, 0, 1), as published.
double published_index(const FeasibilityInputs& inputs);
inline bool published_says_local(double index) {
  return index > kPublishedThreshold;
}

enum class Choice { local, rented, api };
std::string_view to_string(Choice choice);

/// How many times the cheapest outside offer own machines may cost because the data stays in the building, at this
/// sensitivity and weight of money; empty: any price, the data must not leave.
std::optional<double> accepted_ratio(double sensitivity, double cost);

struct Verdict {
  Choice choice = Choice::api;
  TcoResult costs;
  double ratio = 0;                     ///< own machines over the cheapest outside offer
  std::optional<double> accepted;       ///< accepted_ratio
  bool outside_too_rare = false;        ///< what is offered outside is down more often than the availability allows
  std::optional<double> from_workload;  ///< the smallest workload (same unit) at which the verdict is local
};

/// `costs` gives everything but the load, which is `inputs.workload`.
Verdict judge(const FeasibilityInputs& inputs, const TcoInputs& costs);

Answer answer_feasibility(const FeasibilityInputs& inputs, const TcoInputs& costs, Language language);

}  // namespace hp::planner
