// The report for a manager: should we, with what, for how much. Joins feasibility, sizing, cost and scaling into one
// document.
#pragma once

#include "planner/feasibility.h"
#include "planner/sizing.h"

namespace hp::planner {

struct ReportRequest {
  double sensitivity = 3, cost_weight = 0.5;
  SizeRequest size;
  TcoInputs tco;  ///< prices and people; load, servers and power come from the sizing
  Money money;
};

/// The cost inputs with load, server price, capacity and power of the first basic configuration.
TcoInputs tco_of_sizing(const TcoInputs& prices, const SizeInputs& load, const Configuration& configuration);

Answer answer_report(const ReportRequest& request, const SizeResult& result, const std::vector<Accelerator>& catalog,
                     std::span<const Calibration> calibrations, Language language);

}  // namespace hp::planner
