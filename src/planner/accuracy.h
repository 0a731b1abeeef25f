// The errors of the predictions in words, tables and JSON.
#pragma once

#include <span>

#include "base/json.h"
#include "planner/calibration.h"
#include "planner/document.h"

namespace hp::planner {

/// The section that every answer carries.
Section error_section(std::span<const Calibration> calibrations, Language language);
void write_errors(JsonWriter& json, std::span<const Calibration> calibrations);
/// Every measured point beside its prediction.
Answer answer_accuracy(std::span<const Calibration> calibrations, Language language);

}  // namespace hp::planner
