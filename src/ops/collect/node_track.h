// What one node's readings add up to over time: windows over its counters, whether it is down, whether it makes
// progress. Plain state, no clock of its own: times are the reader's monotonic milliseconds.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "ops/collect/page.h"
#include "ops/collect/windows.h"
#include "ops/known_node.h"

namespace hp::ops {

class NodeTrack {
 public:
  void page(std::int64_t at_ms, std::int64_t wall_ms, Page page);
  /// A dcgm-exporter's page: GPUs only.
  void gpus(std::vector<GpuView> gpus) { exported_gpus_ = std::move(gpus); }
  /// `certain`: refused or reset; otherwise too late, which a busy node may be once.
  void unreadable(bool certain);
  /// Once a round, after the pages.
  void round(std::int64_t at_ms, std::int64_t wall_ms, const KnownNode& known);

  [[nodiscard]] bool down() const { return down_; }
  /// Requests run, and nothing has moved since the last reading.
  [[nodiscard]] bool stalled() const { return stalled_; }
  /// Changes between up and down within the window.
  [[nodiscard]] double changes(std::int64_t at_ms, std::int64_t window_ms) const;
  /// Slope of the queue by least squares, 0 while it is short.
  [[nodiscard]] std::optional<double> queue_growth(std::int64_t at_ms, std::int64_t window_ms) const;
  [[nodiscard]] std::optional<double> failed_step_ratio(std::int64_t window_ms) const;
  [[nodiscard]] std::optional<double> figure(std::string_view name) const { return page_.total(name); }
  [[nodiscard]] std::optional<double> xids(int gpu, std::int64_t window_ms) const;
  [[nodiscard]] bool readable() const { return read_ok_; }
  [[nodiscard]] const std::vector<GpuView>& all_gpus() const {
    return page_.gpus.empty() ? exported_gpus_ : page_.gpus;
  }
  [[nodiscard]] const HistogramWindow& first_token() const { return first_token_; }
  [[nodiscard]] NodeView view() const;
  [[nodiscard]] const KnownNode& known() const { return known_; }

 private:
  void set_down(bool down, std::int64_t at_ms);
  [[nodiscard]] NodeCondition condition() const;

  KnownNode known_;
  Page page_;
  std::vector<GpuView> exported_gpus_;
  CounterWindow steps_, failed_steps_, tokens_, prompt_tokens_, prefix_queries_, prefix_hits_, received_, sent_;
  std::map<int, CounterWindow> xids_;
  HistogramWindow first_token_, between_tokens_;
  struct Queue {
    std::int64_t at_ms;
    double waiting;
  };
  std::deque<Queue> queue_;
  std::deque<std::int64_t> changes_;
  bool read_ok_ = false, ever_read_ = false, ever_ready_ = false, down_ = false, reborn_ = false, stalled_ = false;
  int failures_ = 0;
  std::int64_t first_ms_ = -1, since_wall_ms_ = 0, seen_wall_ms_ = 0, progress_ms_ = 0;
  double progress_ = -1, started_ = 0;
  std::uint64_t deaths_ = 0;
  NodeCondition condition_ = NodeCondition::unreachable;
};

/// The percentiles of a window as a view.
LatencyView latency_view(const HistogramWindow& window, std::int64_t window_ms);

}  // namespace hp::ops
