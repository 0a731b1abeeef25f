// Totals over time: how much a counter or a histogram grew within the last so many milliseconds. Times are those of the
// reader's monotonic clock. A total that shrank was started anew and counts from zero.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

namespace hp::ops {

/// What a counter grew by within a while.
struct Growth {
  std::int64_t from_ms = 0, until_ms = 0;
  double amount = 0;
};

class CounterWindow {
 public:
  void add(std::int64_t at_ms, double total);
  /// Growth from before the first reading, oldest first and without overlaps; what lies after that reading is left out.
  /// Nothing happens while there is no reading.
  void recall(std::span<const Growth> past);
  /// Growth within the window, or since the first reading when that is later; empty before there are two readings.
  [[nodiscard]] std::optional<double> increase(std::int64_t window_ms) const;
  /// Per second over the same time.
  [[nodiscard]] std::optional<double> rate(std::int64_t window_ms) const;
  [[nodiscard]] bool empty() const { return fine_.empty(); }

 private:
  struct Point {
    std::int64_t at_ms;
    double grown;
  };
  [[nodiscard]] std::optional<Point> before(std::int64_t at_ms) const;
  std::deque<Point> fine_, coarse_;  // a point a second for half an hour, one in 150 s for three days
  double last_total_ = 0, grown_ = 0;
  std::int64_t last_ms_ = 0;
};

/// Cumulative bucket counts (the last one is +Inf) over five minutes.
class HistogramWindow {
 public:
  void add(std::int64_t at_ms, std::span<const double> bounds, std::span<const double> cumulative);
  /// Counts per bucket within the window, cumulative; empty without growth.
  [[nodiscard]] std::vector<double> increase(std::int64_t window_ms) const;
  [[nodiscard]] const std::vector<double>& bounds() const { return bounds_; }
  [[nodiscard]] const std::vector<double>& totals() const { return totals_; }
  [[nodiscard]] double seconds(std::int64_t window_ms) const;

 private:
  struct Point {
    std::int64_t at_ms;
    std::vector<double> grown;
  };
  [[nodiscard]] const Point* before(std::int64_t at_ms) const;
  std::deque<Point> points_;
  std::vector<double> bounds_, totals_, grown_;
  std::int64_t last_ms_ = 0;
};

/// Linear within its bucket, as Prometheus' histogram_quantile; the last finite bound when it lies beyond it.
std::optional<double> quantile(double share, std::span<const double> bounds, std::span<const double> cumulative);

}  // namespace hp::ops
