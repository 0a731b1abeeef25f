// Levenberg-Marquardt in the logarithms of the parameters, on the logarithms of the times, with a weak pull towards the
// starting values so that what the points do not determine stays reasonable. Deterministic.
#include "planner/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "model/footprint.h"

namespace hp::planner {
namespace {

constexpr double kPull = 0.06;  // weight of the starting value against one point
constexpr int kIterations = 60;
constexpr double kStep = 1e-4;

struct Parameter {
  double Efficiency::*member;
  double start_gpu, start_cpu, low, high;
};
using E = Efficiency;
constexpr std::array<Parameter, 3> kShared = {{
    {&E::attention, 0.2, 0.3, 1e-3, 1},
    {&E::layer_seconds, 4e-5, 2e-5, 1e-6, 1e-2},
    {&E::moe_layer_seconds, 6e-5, 1e-4, 1e-6, 1e-2},
}};
constexpr std::array<Parameter, 5> kPerFormat = {{
    {&E::gemv_bandwidth, 0.7, 0.5, 0.02, 1},
    {&E::batch_bandwidth, 0.5, 0.5, 0.02, 1},
    {&E::compute, 0.3, 0.3, 0.01, 1},
    {&E::overlap, 2, 1.5, 1, 6},
    {&E::row_seconds, 2e-5, 1e-3, 1e-7, 1e-1},
}};

struct Point {
  const Measurement* measured;
  ModelCosts model;
  const WeightFormat* format;
  std::size_t format_index;
  double kv_bytes;
};

double predict(const Point& point, const Accelerator& device, const Efficiency& efficiency) {
  const Placement placement{.model = &point.model,
                            .format = point.format,
                            .kv_bytes_per_token = point.kv_bytes,
                            .machine = {.device = device},
                            .efficiency = efficiency};
  return point.measured->prefill ? prefill_seconds(placement, point.measured->size)
                                 : decode_step_seconds(placement, point.measured->size, point.measured->context);
}

class Fit {
 public:
  Fit(std::vector<Point> points, const Accelerator& device, std::size_t formats)
      : points_(std::move(points)), device_(device) {
    const bool cpu = device.kind == Accelerator::Kind::cpu;
    const auto add = [&](const Parameter& p) {
      start_.push_back(std::log(cpu ? p.start_cpu : p.start_gpu));
      bounds_.emplace_back(std::log(p.low), std::log(p.high));
    };
    for (const Parameter& p : kShared) add(p);
    for (std::size_t f = 0; f < formats; ++f) {
      for (const Parameter& p : kPerFormat) add(p);
    }
    x_ = start_;
  }

  void run() {
    double damping = 1e-2;
    double cost = cost_of(residuals(x_));
    for (int i = 0; i < kIterations; ++i) {
      const std::vector<double> next = step(damping);
      const double next_cost = cost_of(residuals(next));
      if (next_cost < cost) {
        x_ = next;
        cost = next_cost;
        damping = std::max(damping / 3, 1e-7);
      } else {
        damping = std::min(damping * 4, 1e4);
      }
    }
  }

  [[nodiscard]] Efficiency efficiency(const std::vector<double>& x, std::size_t format) const {
    Efficiency out;
    for (std::size_t i = 0; i < kShared.size(); ++i) out.*(kShared[i].member) = std::exp(x[i]);
    for (std::size_t i = 0; i < kPerFormat.size(); ++i)
      out.*(kPerFormat[i].member) = std::exp(x[kShared.size() + format * kPerFormat.size() + i]);
    return out;
  }
  [[nodiscard]] Efficiency efficiency(std::size_t format) const { return efficiency(x_, format); }

 private:
  [[nodiscard]] std::vector<double> residuals(const std::vector<double>& x) const {
    std::vector<double> out;
    for (const Point& p : points_)
      out.push_back(std::log(predict(p, device_, efficiency(x, p.format_index)) / p.measured->seconds()));
    for (std::size_t i = 0; i < x.size(); ++i) out.push_back(kPull * (x[i] - start_[i]));
    return out;
  }

  static double cost_of(const std::vector<double>& r) {
    double sum = 0;
    for (const double v : r) sum += v * v;
    return sum;
  }

  /// x + the damped Gauss-Newton step, held within the bounds.
  [[nodiscard]] std::vector<double> step(double damping) const {
    const std::size_t n = x_.size();
    const std::vector<double> r = residuals(x_);
    std::vector<std::vector<double>> jacobian(n);  // [parameter][residual]
    for (std::size_t j = 0; j < n; ++j) {
      std::vector<double> moved = x_;
      const double h = moved[j] + kStep > bounds_[j].second ? -kStep : kStep;
      moved[j] += h;
      jacobian[j] = residuals(moved);
      for (std::size_t k = 0; k < r.size(); ++k) jacobian[j][k] = (jacobian[j][k] - r[k]) / h;
    }
    std::vector<std::vector<double>> a(n, std::vector<double>(n + 1));
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t k = 0; k < r.size(); ++k) a[i][j] += jacobian[i][k] * jacobian[j][k];
      }
      for (std::size_t k = 0; k < r.size(); ++k) a[i][n] -= jacobian[i][k] * r[k];
      a[i][i] *= 1 + damping;
    }
    return moved_by(solve(std::move(a)));
  }

  [[nodiscard]] std::vector<double> moved_by(const std::vector<double>& delta) const {
    std::vector<double> out = x_;
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = std::clamp(out[i] + delta[i], bounds_[i].first, bounds_[i].second);
    return out;
  }

  /// Gauss elimination with pivots; the pull towards the start keeps the matrix regular.
  static std::vector<double> solve(std::vector<std::vector<double>> a) {
    const std::size_t n = a.size();
    for (std::size_t c = 0; c < n; ++c) {
      std::size_t pivot = c;
      for (std::size_t i = c + 1; i < n; ++i) pivot = std::fabs(a[i][c]) > std::fabs(a[pivot][c]) ? i : pivot;
      std::swap(a[c], a[pivot]);
      for (std::size_t i = c + 1; i < n; ++i) {
        const double factor = a[i][c] / a[c][c];
        for (std::size_t k = c; k <= n; ++k) a[i][k] -= factor * a[c][k];
      }
    }
    std::vector<double> x(n);
    for (std::size_t i = n; i-- > 0;) {
      x[i] = a[i][n];
      for (std::size_t k = i + 1; k < n; ++k) x[i] -= a[i][k] * x[k];
      x[i] /= a[i][i];
    }
    return x;
  }

  std::vector<Point> points_;
  const Accelerator& device_;
  std::vector<double> start_, x_;
  std::vector<std::pair<double, double>> bounds_;
};

Point point_of(const Measurement& m, std::size_t format_index) {
  const Result<ModelConfig> config = catalog_model(m.model);
  HP_CHECK(config.has_value(), "measurement of an unknown model '{}'", m.model);
  return {.measured = &m,
          .model = costs_of(*config),
          .format = find_format(m.format),
          .format_index = format_index,
          .kv_bytes = static_cast<double>(kv_bytes_per_token(*config, DType::f16))};
}

}  // namespace

Calibration calibrate(std::span<const Measurement> points, const Accelerator& device) {
  std::vector<std::string> formats;  // measured with at least one calibrating point
  for (const Measurement& m : points) {
    if (m.calibrates && std::find(formats.begin(), formats.end(), m.format) == formats.end())
      formats.push_back(m.format);
  }
  HP_CHECK(!formats.empty(), "no calibrating point for {}", device.id);
  std::vector<Point> fitted;
  for (const Measurement& m : points) {
    const auto at = std::find(formats.begin(), formats.end(), m.format);
    if (m.calibrates) fitted.push_back(point_of(m, static_cast<std::size_t>(at - formats.begin())));
  }
  Fit fit(std::move(fitted), device, formats.size());
  fit.run();
  Calibration out{.engine = points.front().engine, .device = device.id};
  for (std::size_t f = 0; f < formats.size(); ++f) out.formats[formats[f]] = fit.efficiency(f);
  for (const Measurement& m : points) {
    const Point point = point_of(m, 0);
    out.checked.push_back({.measured = m, .predicted_seconds = predict(point, device, out.of(*point.format))});
  }
  out.errors = prediction_errors(out.checked);
  return out;
}

const Efficiency& Calibration::of(const WeightFormat& format) const {
  const Efficiency* best = nullptr;
  double best_distance = 0;
  for (const auto& [name, efficiency] : formats) {
    const WeightFormat& other = *find_format(name);
    const double distance = (name == format.name ? -100.0 : 0.0) + (other.rate == format.rate ? 0.0 : 1.0) +
                            std::fabs(std::log2(other.layer_bytes / format.layer_bytes));
    if (best == nullptr || distance < best_distance) {
      best = &efficiency;
      best_distance = distance;
    }
  }
  HP_CHECK(best != nullptr, "calibration of {} on {} has no format", engine, device);
  return *best;
}

}  // namespace hp::planner
