// Levenberg-Marquardt in the logarithms of the parameters, on the logarithms of the times, with a weak pull towards the
// starting values so that what the points do not determine stays reasonable. Deterministic: points are held back by
// their place in the file (i modulo 5), never by hand.
#include "planner/calibration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/check.h"
#include "model/footprint.h"

namespace hp::planner {
namespace {

constexpr double kPullStart = 0.06;  // weight of a general starting value against one point
constexpr double kPullShared = 0.1;  // of what all formats together say, against one point of a format
constexpr int kIterations = 60;
constexpr double kConverged = 1e-7;  // relative gain of an iteration
constexpr double kStep = 1e-4;
constexpr int kFolds = 5;

struct Parameter {
  double Efficiency::*member;
  double start_gpu, start_cpu, low, high;
};
using E = Efficiency;
constexpr std::array<Parameter, 3> kShared = {{
    {&E::attention, 0.2, 0.3, 1e-3, 1},
    {&E::layer_seconds, 4e-5, 2e-5, 1e-7, 1e-2},
    {&E::moe_layer_seconds, 6e-5, 1e-4, 1e-7, 1e-2},
}};
constexpr std::array<Parameter, 6> kPerFormat = {{
    {&E::gemv_bandwidth, 0.7, 0.5, 0.02, 1},
    {&E::batch_bandwidth, 0.5, 0.5, 0.02, 1},
    {&E::gemv_compute, 0.3, 0.3, 0.01, 1},
    {&E::compute, 0.3, 0.3, 0.01, 1},
    {&E::overlap, 2, 1.5, 1, 6},
    {&E::row_seconds, 2e-5, 1e-3, 1e-8, 1e-1},
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

/// kShared once, then kPerFormat for every format.
std::vector<double> general_start(const Accelerator& device, std::size_t formats) {
  const bool cpu = device.kind == Accelerator::Kind::cpu;
  std::vector<double> out;
  for (const Parameter& p : kShared) out.push_back(std::log(cpu ? p.start_cpu : p.start_gpu));
  for (std::size_t f = 0; f < formats; ++f) {
    for (const Parameter& p : kPerFormat) out.push_back(std::log(cpu ? p.start_cpu : p.start_gpu));
  }
  return out;
}

class Fit {
 public:
  Fit(std::span<const Point* const> points, const Accelerator& device, std::vector<double> start, double pull)
      : points_(points), device_(device), pull_(pull), start_(std::move(start)), x_(start_) {
    const auto bound = [&](const Parameter& p) { bounds_.emplace_back(std::log(p.low), std::log(p.high)); };
    for (const Parameter& p : kShared) bound(p);
    while (bounds_.size() < start_.size()) {
      for (const Parameter& p : kPerFormat) bound(p);
    }
  }

  void run() {
    double damping = 1e-2, cost = cost_at(x_);
    for (int i = 0; i < kIterations && damping < 1e4; ++i) {
      const std::vector<double> next = step(damping);
      const double next_cost = cost_at(next), gain = cost - next_cost;
      if (gain <= 0) {
        damping *= 4;
        continue;
      }
      x_ = next;
      cost = next_cost;
      damping = std::max(damping / 3, 1e-7);
      if (gain < kConverged * cost) break;
    }
  }

  [[nodiscard]] const std::vector<double>& values() const { return x_; }
  [[nodiscard]] static Efficiency efficiency(const std::vector<double>& x, std::size_t format) {
    Efficiency out;
    for (std::size_t i = 0; i < kShared.size(); ++i) out.*(kShared[i].member) = std::exp(x[i]);
    for (std::size_t i = 0; i < kPerFormat.size(); ++i) out.*(kPerFormat[i].member) = std::exp(x[first_of(format) + i]);
    return out;
  }

 private:
  static std::size_t first_of(std::size_t format) { return kShared.size() + format * kPerFormat.size(); }

  [[nodiscard]] double residual(const Point& p, const std::vector<double>& x) const {
    return std::log(predict(p, device_, efficiency(x, p.format_index)) / p.measured->seconds());
  }

  [[nodiscard]] double cost_at(const std::vector<double>& x) const {
    double sum = 0;
    for (const Point* p : points_) sum += std::pow(residual(*p, x), 2);
    for (std::size_t i = 0; i < x.size(); ++i) sum += std::pow(pull_ * (x[i] - start_[i]), 2);
    return sum;
  }

  /// x + the damped Gauss-Newton step, held within the bounds. A point depends on the shared parameters and its
  /// format's.
  [[nodiscard]] std::vector<double> step(double damping) const {
    const std::size_t n = x_.size();
    std::vector<std::vector<double>> a(n, std::vector<double>(n + 1));
    for (std::size_t i = 0; i < n; ++i) {
      a[i][i] = pull_ * pull_;
      a[i][n] = -pull_ * pull_ * (x_[i] - start_[i]);
    }
    std::vector<double> moved = x_;
    for (const Point* p : points_) {
      const double r = residual(*p, x_);
      std::array<std::pair<std::size_t, double>, kShared.size() + kPerFormat.size()> slope;
      for (std::size_t k = 0; k < slope.size(); ++k) {
        const std::size_t j = k < kShared.size() ? k : first_of(p->format_index) + k - kShared.size();
        const double h = moved[j] + kStep > bounds_[j].second ? -kStep : kStep;
        moved[j] += h;
        slope[k] = {j, (residual(*p, moved) - r) / h};
        moved[j] = x_[j];
      }
      for (const auto& [i, di] : slope) {
        for (const auto& [j, dj] : slope) a[i][j] += di * dj;
        a[i][n] -= di * r;
      }
    }
    for (std::size_t i = 0; i < n; ++i) a[i][i] *= 1 + damping;
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

  std::span<const Point* const> points_;
  const Accelerator& device_;
  double pull_ = 0;
  std::vector<double> start_, x_;
  std::vector<std::pair<double, double>> bounds_;
};

using Formats = std::map<std::string, Efficiency, std::less<>>;

/// First what all formats have in common, then each format near it: a format with two points is not left to chance.
Formats fit_formats(const std::vector<const Point*>& points, const Accelerator& device) {
  std::vector<Point> alike;
  std::vector<const Point*> pointers, sorted = points;
  std::vector<std::string> names;
  for (const Point* p : points) {
    alike.push_back(*p);
    alike.back().format_index = 0;
    const std::string name(p->format->name);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  for (const Point& p : alike) pointers.push_back(&p);
  Fit common(pointers, device, general_start(device, 1), kPullStart);
  common.run();
  std::vector<Point> own = alike;
  for (std::size_t i = 0; i < own.size(); ++i)
    own[i].format_index = static_cast<std::size_t>(
        std::find(names.begin(), names.end(), std::string(own[i].format->name)) - names.begin());
  std::vector<double> start(common.values().begin(), common.values().begin() + kShared.size());
  for (std::size_t f = 0; f < names.size(); ++f)
    start.insert(start.end(), common.values().begin() + kShared.size(), common.values().end());
  for (std::size_t i = 0; i < own.size(); ++i) sorted[i] = &own[i];
  Fit fit(sorted, device, std::move(start), kPullShared);
  fit.run();
  Formats out;
  for (std::size_t f = 0; f < names.size(); ++f) out[names[f]] = Fit::efficiency(fit.values(), f);
  return out;
}

Point point_of(const Measurement& m) {
  const Result<ModelConfig> config = catalog_model(m.model);
  HP_CHECK(config.has_value(), "measurement of an unknown model '{}'", m.model);
  return {.measured = &m,
          .model = costs_of(*config),
          .format = find_format(m.format),
          .kv_bytes = static_cast<double>(kv_bytes_per_token(*config, DType::f16))};
}

/// Every point of which `held` says yes, predicted by a fit to the others.
template <typename Held>
void check_held(const std::vector<Point>& points, const Accelerator& device, Held held,
                std::vector<CheckedPoint>& checked) {
  std::vector<const Point*> fitted;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!held(i)) fitted.push_back(&points[i]);
  }
  if (fitted.empty() || fitted.size() == points.size()) return;
  const Calibration without{.formats = fit_formats(fitted, device)};
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (held(i))
      checked.push_back({.measured = *points[i].measured,
                         .predicted_seconds = predict(points[i], device, without.of(*points[i].format))});
  }
}

}  // namespace

Calibration calibrate(std::span<const Measurement> measured, const Accelerator& device) {
  HP_CHECK(!measured.empty(), "no point for {}", device.id);
  std::vector<Point> points;
  std::vector<const Point*> all;
  std::vector<std::string> models;
  for (const Measurement& m : measured) {
    points.push_back(point_of(m));
    if (std::find(models.begin(), models.end(), m.model) == models.end()) models.push_back(m.model);
  }
  for (const Point& p : points) all.push_back(&p);
  Calibration out{.engine = measured.front().engine, .device = device.id, .formats = fit_formats(all, device)};
  for (std::size_t fold = 0; fold < kFolds; ++fold)
    check_held(
        points, device, [&](std::size_t i) { return i % kFolds == fold; }, out.checked);
  std::vector<CheckedPoint> other;
  for (const std::string& model : models)
    check_held(
        points, device, [&](std::size_t i) { return measured[i].model == model; }, other);
  out.errors = prediction_errors(out.checked);
  out.other_model_errors = prediction_errors(other);
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
