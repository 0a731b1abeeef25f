// Metrics in Prometheus' text format: counters, gauges, histograms with labels. Recording is a relaxed atomic add;
// registration takes a lock and hands out a reference that lives as long as the registry.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hp {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void add(double v = 1.0) { value_.fetch_add(v, std::memory_order_relaxed); }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Gauge {
 public:
  void set(double v) { value_.store(v, std::memory_order_relaxed); }
  void add(double v) { value_.fetch_add(v, std::memory_order_relaxed); }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::span<const double> upper_bounds);
  void observe(double v);
  [[nodiscard]] std::span<const double> bounds() const { return bounds_; }
  /// Cumulative count up to bound i; i == bounds().size() is +Inf.
  [[nodiscard]] std::vector<std::uint64_t> cumulative() const;
  [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t count() const;

 private:
  std::vector<double> bounds_;
  std::deque<std::atomic<std::uint64_t>> counts_;
  std::atomic<double> sum_{0};
};

/// Owns every metric of a process. The same name and labels give the same object; the same name with another kind is a
/// bug.
class MetricsRegistry {
 public:
  /// At most this many label sets per name come from clients' values; further ones share the label value "other".
  static constexpr std::size_t kMaxSeriesPerName = 1000;

  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const Labels& labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                       const Labels& labels = {});
  /// Read when the page is rendered.
  void gauge_callback(std::string_view name, std::string_view help, const Labels& labels, std::function<double()> read);

  /// Prometheus text exposition format 0.0.4, families sorted by name.
  [[nodiscard]] std::string render() const;

 private:
  struct Series;
  struct Family;
  Series& find_or_add(std::string_view name, std::string_view help, int kind, const Labels& labels);
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_;

 public:
  MetricsRegistry();
  ~MetricsRegistry();
};

}  // namespace hp
