#include "base/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace hp {
namespace {

enum Kind : int { kCounter, kGauge, kHistogram };
constexpr std::string_view kKindNames[] = {"counter", "gauge", "histogram"};

std::string escape(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string format_number(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", v);
}

/// `{a="b",le="1"}`, or nothing when there is no label at all.
std::string format_labels(const Labels& labels, std::string_view bound = {}) {
  std::string out;
  for (const auto& [name, value] : labels)
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escape(value, true));
  if (!bound.empty()) out += fmt::format("{}le=\"{}\"", out.empty() ? "" : ",", bound);
  return out.empty() ? out : "{" + out + "}";
}

}  // namespace

Histogram::Histogram(std::span<const double> upper_bounds)
    : bounds_(upper_bounds.begin(), upper_bounds.end()), counts_(upper_bounds.size() + 1) {
  HP_CHECK(std::is_sorted(bounds_.begin(), bounds_.end()), "histogram bounds must rise");
}

void Histogram::observe(double v) {
  const auto slot = std::lower_bound(bounds_.begin(), bounds_.end(), v) - bounds_.begin();
  counts_[static_cast<std::size_t>(slot)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(v, std::memory_order_relaxed);
}

std::vector<std::uint64_t> Histogram::cumulative() const {
  std::vector<std::uint64_t> out;
  std::uint64_t total = 0;
  for (const auto& count : counts_) out.push_back(total += count.load(std::memory_order_relaxed));
  return out;
}

std::uint64_t Histogram::count() const {
  return cumulative().back();
}

struct MetricsRegistry::Series {
  Labels labels;
  Counter counter;
  Gauge gauge;
  std::unique_ptr<Histogram> histogram;
  std::function<double()> read;
};

struct MetricsRegistry::Family {
  std::string help;
  int kind = kCounter;
  std::map<Labels, std::unique_ptr<Series>> series;
};

MetricsRegistry::MetricsRegistry() = default;
MetricsRegistry::~MetricsRegistry() = default;

MetricsRegistry::Series& MetricsRegistry::find_or_add(std::string_view name, std::string_view help, int kind,
                                                      const Labels& labels) {
  auto it = families_.find(name);
  if (it == families_.end()) {
    it = families_.emplace(std::string(name), std::make_unique<Family>()).first;
    it->second->help = help;
    it->second->kind = kind;
  }
  Family& family = *it->second;
  HP_CHECK(family.kind == kind, "metric {} registered as two kinds", name);
  if (const auto found = family.series.find(labels); found != family.series.end()) return *found->second;
  Labels key = labels;
  if (family.series.size() >= kMaxSeriesPerName)
    for (auto& label : key) label.second = "other";
  std::unique_ptr<Series>& series = family.series[key];
  if (series == nullptr) {
    series = std::make_unique<Series>();
    series->labels = key;
  }
  return *series;
}

Counter& MetricsRegistry::counter(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  return find_or_add(name, help, kCounter, labels).counter;
}

Gauge& MetricsRegistry::gauge(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  return find_or_add(name, help, kGauge, labels).gauge;
}

Histogram& MetricsRegistry::histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                                      const Labels& labels) {
  const std::lock_guard lock(mutex_);
  Series& series = find_or_add(name, help, kHistogram, labels);
  if (series.histogram == nullptr) series.histogram = std::make_unique<Histogram>(bounds);
  return *series.histogram;
}

void MetricsRegistry::gauge_callback(std::string_view name, std::string_view help, const Labels& labels,
                                     std::function<double()> read) {
  const std::lock_guard lock(mutex_);
  find_or_add(name, help, kGauge, labels).read = std::move(read);
}

std::string MetricsRegistry::render() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : families_) {
    out +=
        fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, escape(family->help, false), name, kKindNames[family->kind]);
    for (const auto& [labels, series] : family->series) {
      if (family->kind != kHistogram) {
        const double value = family->kind == kCounter ? series->counter.value()
                             : series->read           ? series->read()
                                                      : series->gauge.value();
        out += fmt::format("{}{} {}\n", name, format_labels(labels), format_number(value));
        continue;
      }
      const Histogram& h = *series->histogram;
      const std::vector<std::uint64_t> counts = h.cumulative();
      for (std::size_t i = 0; i < counts.size(); ++i) {
        const std::string bound = i < h.bounds().size() ? format_number(h.bounds()[i]) : "+Inf";
        out += fmt::format("{}_bucket{} {}\n", name, format_labels(labels, bound), counts[i]);
      }
      out += fmt::format("{}_sum{} {}\n{}_count{} {}\n", name, format_labels(labels), format_number(h.sum()), name,
                         format_labels(labels), counts.back());
    }
  }
  return out;
}

}  // namespace hp
