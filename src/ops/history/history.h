// The product's own memory of its figures: rings of three resolutions per series, in memory that is bounded. Knows
// nothing of where values come from (history_feed.h) or how they outlive the process (history_file.h). Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/console/console_limits.h"

namespace hp::ops {

struct Resolution {
  std::int64_t step_ms;
  std::size_t slots;
};
/// 15 minutes, 6 hours, 7 days.
inline constexpr std::array<Resolution, 3> kResolutions{{{5'000, 180}, {60'000, 360}, {600'000, 1008}}};

/// What a series keeps per slot. gauge and rate: mean and peak; quantiles: p50, p90, p99 of exactly the slot's events.
enum class SeriesKind : std::uint8_t { gauge, rate, quantiles };
constexpr std::size_t lanes_of(SeriesKind kind) {
  return kind == SeriesKind::quantiles ? 3 : 2;
}

class History {
 public:
  /// A slot that has just become complete: for who writes it to a file.
  using SlotClosed = std::function<void(std::size_t resolution, std::int64_t slot)>;

  explicit History(std::size_t max_series = limits::kMaxHistorySeries) : max_series_(max_series) {}

  /// The wall clock moves on; to be called before the values of that moment. A clock that was set back drops what
  /// would lie in its future.
  void advance(std::int64_t unix_ms, const SlotClosed& on_closed = {});
  void gauge(std::string_view series, double value);
  /// A total that grows; one that shrinks was started anew.
  void counter(std::string_view series, double total);
  /// Cumulative counts per upper bound, the last one of +Inf, as Prometheus has them.
  void histogram(std::string_view series, std::span<const double> bounds, std::span<const double> cumulative);

  struct Column {
    std::string name;           ///< "ttft:p99", "tokens:mean"
    std::vector<float> values;  ///< NaN: no data
  };
  struct Table {
    std::int64_t from_ms = 0, step_ms = 0;  ///< of the first value; each value covers step_ms
    std::vector<Column> columns;
  };
  /// Whole lanes ("cpu:mean", "ttft:p99"), thinned to max_points: means of means, the highest of peaks and percentiles.
  [[nodiscard]] Table query(std::size_t resolution, std::span<const std::string> lanes, std::size_t max_points) const;
  /// The lane of "node/NAME/metric" for every NAME: minimum, mean and maximum over the nodes, and the `top` nodes with
  /// the highest means, best first.
  [[nodiscard]] Table query_nodes(std::size_t resolution, std::string_view metric, std::string_view lane,
                                  std::size_t top, std::size_t max_points) const;

  // For persistence.
  struct SeriesView {
    std::string_view name;
    SeriesKind kind;
    std::uint32_t id;
  };
  [[nodiscard]] std::vector<SeriesView> series() const;
  /// One value per lane, or nothing when the slot holds no data.
  [[nodiscard]] std::vector<float> at(std::uint32_t id, std::size_t resolution, std::int64_t slot) const;
  [[nodiscard]] std::int64_t newest(std::size_t resolution) const { return current_[resolution]; }
  /// A value from before this process; taken when its slot is in the window that ends at `now_ms`.
  void restore(std::string_view name, SeriesKind kind, std::size_t resolution, std::int64_t slot, std::int64_t now_ms,
               std::span<const float> lanes);

  [[nodiscard]] std::size_t size() const { return series_.size(); }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }  ///< values without room
  [[nodiscard]] std::size_t bytes() const;

 private:
  struct Ring {
    std::vector<float> values;  // [slot % slots][lane]
    double sum = 0, weight = 0, peak = 0;
    bool any = false;
    std::vector<double> buckets;
  };
  struct Series {
    std::string name;
    SeriesKind kind{};
    std::array<Ring, kResolutions.size()> rings;
    double last_total = 0;
    std::int64_t last_ms = 0, touched_ms = 0;
    bool has_last = false;
    std::vector<double> bounds, last_buckets;
  };
  Series* find_or_add(std::string_view name, SeriesKind kind);
  void close_slot(std::size_t resolution);
  void clear_slot(std::size_t resolution, std::int64_t slot);
  [[nodiscard]] std::vector<float> lane_values(const Series& series, std::size_t resolution, std::size_t lane) const;

  const std::size_t max_series_;
  std::int64_t now_ms_ = 0;
  std::array<std::int64_t, kResolutions.size()> current_{};  // the slot that is being filled; 0: none yet
  std::vector<std::unique_ptr<Series>> series_;              // by id
  std::map<std::string, std::uint32_t, std::less<>> ids_;
  std::uint64_t refused_ = 0;
};

/// The value below which `share` of the events lie, by linear interpolation within its bucket as Prometheus does.
double quantile_of(double share, std::span<const double> bounds, std::span<const double> per_bucket);

}  // namespace hp::ops
