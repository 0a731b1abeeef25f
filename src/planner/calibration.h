// Efficiencies out of measurements: the roofline fitted to the measured points of one engine on one device. How wrong
// its predictions are is found by cross-validation: every point is predicted by a fit that has not seen it, once with a
// fifth of the points held back, once with a whole model held back. These errors are part of every answer.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "planner/accelerators.h"
#include "planner/roofline.h"

namespace hp::planner {

struct Measurement {
  std::string engine, device, model, format, source;
  bool prefill = false;
  double size = 0;     ///< prompt tokens, or sequences decoded together
  double context = 0;  ///< decode: mean tokens of context
  double tokens_per_second = 0;
  [[nodiscard]] double seconds() const { return size / tokens_per_second; }
};

/// Shipped points and those of the user (same shape); a model or format that the catalogs do not know is an error.
Result<std::vector<Measurement>> load_measurements(std::string_view extra_toml = {},
                                                   std::string_view source_name = "measurements");

/// What `homeport bench --json` measured on the accelerator `device`; the model is found in the catalog by its shape.
Result<std::vector<Measurement>> measurements_of_bench(const JsonValue& bench, std::string_view device,
                                                       std::string_view source_name);

struct CheckedPoint {
  Measurement measured;
  double predicted_seconds = 0;  ///< by a fit without this point
  [[nodiscard]] double error() const { return predicted_seconds / measured.seconds() - 1; }
};

/// Mean absolute percentage errors, as shares; NaN where there is no such point.
struct PredictionErrors {
  int points = 0;
  double first_token = 0, inter_token = 0, throughput = 0, end_to_end = 0;
};

struct Calibration {
  std::string engine, device;
  std::map<std::string, Efficiency, std::less<>> formats;
  std::vector<CheckedPoint> checked;    ///< every point, predicted without its fifth
  PredictionErrors errors;              ///< of checked
  PredictionErrors other_model_errors;  ///< of every point predicted without its model; points 0: one model only

  /// The efficiency of a format; one that was not measured takes that of the measured one nearest in rate and width.
  [[nodiscard]] const Efficiency& of(const WeightFormat& format) const;
};

/// `points` of one engine on one device, not empty.
Calibration calibrate(std::span<const Measurement> points, const Accelerator& device);
/// Every engine and device that has points.
Result<std::vector<Calibration>> calibrate_all(std::span<const Measurement> points,
                                               const std::vector<Accelerator>& catalog);
PredictionErrors prediction_errors(std::span<const CheckedPoint> checked);

}  // namespace hp::planner
