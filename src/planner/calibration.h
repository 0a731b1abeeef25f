// Efficiencies out of measurements: a fit of the roofline to some of the measured points, checked on the others. The
// errors on the points that were held back are part of every answer.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "planner/accelerators.h"
#include "planner/roofline.h"

namespace hp::planner {

struct Measurement {
  std::string engine, device, model, format, source;
  bool prefill = false;
  double size = 0;     ///< prompt tokens, or sequences decoded together
  double context = 0;  ///< decode: mean tokens of context
  double tokens_per_second = 0;
  bool calibrates = false;
  [[nodiscard]] double seconds() const { return size / tokens_per_second; }
};

/// Shipped points and those of the user (same shape); a model or format that the catalogs do not know is an error.
Result<std::vector<Measurement>> load_measurements(std::string_view extra_toml = {},
                                                   std::string_view source_name = "measurements");

struct CheckedPoint {
  Measurement measured;
  double predicted_seconds = 0;
  [[nodiscard]] double error() const { return predicted_seconds / measured.seconds() - 1; }
};

/// Mean absolute percentage errors on held-back points, as shares; NaN where there is no such point.
struct PredictionErrors {
  int points = 0;
  double first_token = 0, inter_token = 0, throughput = 0, end_to_end = 0;
};

struct Calibration {
  std::string engine, device;
  std::map<std::string, Efficiency, std::less<>> formats;
  std::vector<CheckedPoint> checked;  ///< every point; those with measured.calibrates were fitted
  PredictionErrors errors;

  /// The efficiency of a format; one that was not measured takes that of the measured one nearest in rate and width.
  [[nodiscard]] const Efficiency& of(const WeightFormat& format) const;
};

/// `points` of one engine on one device, which must have at least one that calibrates.
Calibration calibrate(std::span<const Measurement> points, const Accelerator& device);
/// Every engine and device that has points.
Result<std::vector<Calibration>> calibrate_all(std::span<const Measurement> points,
                                               const std::vector<Accelerator>& catalog);
PredictionErrors prediction_errors(std::span<const CheckedPoint> checked);

}  // namespace hp::planner
