#include "ops/history/history.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hp::ops {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

/// Mean of means; of peaks and percentiles the highest: a spike must not vanish because the window is long.
float merged(std::span<const float> values, bool highest) {
  double sum = 0;
  float top = kNone;
  std::size_t count = 0;
  for (const float v : values) {
    if (std::isnan(v)) continue;
    sum += v;
    top = count++ == 0 ? v : std::max(top, v);
  }
  if (count == 0) return kNone;
  return highest ? top : static_cast<float>(sum / static_cast<double>(count));
}

std::vector<float> thinned(const std::vector<float>& values, std::size_t factor, bool highest) {
  if (factor <= 1) return values;
  std::vector<float> out;
  out.reserve((values.size() + factor - 1) / factor);
  for (std::size_t i = 0; i < values.size(); i += factor)
    out.push_back(merged(std::span(values).subspan(i, std::min(factor, values.size() - i)), highest));
  return out;
}

std::size_t factor_for(std::size_t slots, std::size_t max_points) {
  const std::size_t points = std::clamp<std::size_t>(max_points, 1, slots);
  return (slots + points - 1) / points;
}

/// The lane's number, or lanes_of(kind) when the kind has no such lane.
std::size_t lane_number(SeriesKind kind, std::string_view lane) {
  if (kind == SeriesKind::quantiles) return lane == "p50" ? 0 : lane == "p90" ? 1 : lane == "p99" ? 2 : 3;
  return lane == "mean" ? 0 : lane == "peak" ? 1 : 2;
}

}  // namespace

double quantile_of(double share, std::span<const double> bounds, std::span<const double> per_bucket) {
  double total = 0;
  for (const double count : per_bucket) total += count;
  if (total <= 0 || bounds.empty()) return std::numeric_limits<double>::quiet_NaN();
  double below = 0;
  for (std::size_t i = 0; i < bounds.size() && i < per_bucket.size(); ++i) {
    if (below + per_bucket[i] >= share * total) {
      const double low = i == 0 ? 0.0 : bounds[i - 1];
      return low + (bounds[i] - low) * (share * total - below) / per_bucket[i];
    }
    below += per_bucket[i];
  }
  return bounds.back();
}

History::Series* History::find_or_add(std::string_view name, SeriesKind kind) {
  if (const auto found = ids_.find(name); found != ids_.end()) {
    Series& series = *series_[found->second];
    return series.kind == kind ? &series : nullptr;
  }
  if (name.empty() || name.size() > limits::kMaxSeriesNameBytes) {
    ++refused_;
    return nullptr;
  }
  std::uint32_t id = static_cast<std::uint32_t>(series_.size());
  if (series_.size() >= max_series_) {
    // The series that has been silent for longest gives its place, but only to one that speaks when it no longer does.
    const auto oldest = std::ranges::min_element(series_, {}, [](const auto& s) { return s->touched_ms; });
    if (oldest == series_.end() || now_ms_ - (*oldest)->touched_ms < kResolutions[1].step_ms) {
      ++refused_;
      return nullptr;
    }
    id = static_cast<std::uint32_t>(oldest - series_.begin());
    ids_.erase((*oldest)->name);
    *oldest = std::make_unique<Series>();
  } else {
    series_.push_back(std::make_unique<Series>());
  }
  Series& series = *series_[id];
  series.name = name;
  series.kind = kind;
  for (std::size_t r = 0; r < kResolutions.size(); ++r)
    series.rings[r].values.assign(kResolutions[r].slots * lanes_of(kind), kNone);
  ids_.emplace(series.name, id);
  return &series;
}

void History::clear_slot(std::size_t resolution, std::int64_t slot) {
  for (const auto& series : series_) {
    const std::size_t lanes = lanes_of(series->kind);
    auto& values = series->rings[resolution].values;
    const auto from = static_cast<std::size_t>(slot) % kResolutions[resolution].slots * lanes;
    std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(from), lanes, kNone);
  }
}

void History::close_slot(std::size_t resolution) {
  const std::int64_t slot = current_[resolution];
  for (const auto& series : series_) {
    Ring& ring = series->rings[resolution];
    if (!ring.any) continue;
    const std::size_t lanes = lanes_of(series->kind);
    float* out = ring.values.data() + static_cast<std::size_t>(slot) % kResolutions[resolution].slots * lanes;
    if (series->kind == SeriesKind::quantiles) {
      static constexpr std::array kShares{0.5, 0.9, 0.99};
      for (std::size_t i = 0; i < lanes; ++i)
        out[i] = static_cast<float>(quantile_of(kShares[i], series->bounds, ring.buckets));
      std::ranges::fill(ring.buckets, 0.0);
    } else {
      out[0] = ring.weight > 0 ? static_cast<float>(ring.sum / ring.weight) : kNone;
      out[1] = static_cast<float>(ring.peak);
    }
    ring.sum = ring.weight = ring.peak = 0;
    ring.any = false;
  }
}

void History::advance(std::int64_t unix_ms, const SlotClosed& on_closed) {
  for (std::size_t r = 0; r < kResolutions.size(); ++r) {
    const std::int64_t slot = unix_ms / kResolutions[r].step_ms;
    const auto slots = static_cast<std::int64_t>(kResolutions[r].slots);
    std::int64_t& current = current_[r];
    if (slot == current) continue;
    if (current != 0) {
      close_slot(r);
      if (on_closed) on_closed(r, current);
    }
    if (current == 0 || slot > current) {
      for (std::int64_t s = std::max(current + 1, slot - slots + 1); s <= slot; ++s) clear_slot(r, s);
    } else {
      for (std::int64_t s = std::max(slot + 1, current - slots + 1); s <= current; ++s) clear_slot(r, s);
    }
    current = slot;
  }
  now_ms_ = unix_ms;
}

void History::gauge(std::string_view name, double value) {
  Series* series = std::isfinite(value) ? find_or_add(name, SeriesKind::gauge) : nullptr;
  if (series == nullptr) return;
  series->touched_ms = now_ms_;
  for (Ring& ring : series->rings) {
    ring.sum += value;
    ring.weight += 1;
    ring.peak = ring.any ? std::max(ring.peak, value) : value;
    ring.any = true;
  }
}

void History::counter(std::string_view name, double total) {
  Series* series = std::isfinite(total) ? find_or_add(name, SeriesKind::rate) : nullptr;
  if (series == nullptr) return;
  series->touched_ms = now_ms_;
  const double seconds = static_cast<double>(now_ms_ - series->last_ms) / 1000;
  const bool usable = series->has_last && seconds > 0;
  if (usable) {
    const double increase = total >= series->last_total ? total - series->last_total : total;
    for (Ring& ring : series->rings) {
      ring.sum += increase;
      ring.weight += seconds;
      ring.peak = std::max(ring.peak, increase / seconds);
      ring.any = true;
    }
  }
  if (usable || !series->has_last || now_ms_ < series->last_ms) {
    series->last_total = total;
    series->last_ms = now_ms_;
    series->has_last = true;
  }
}

void History::histogram(std::string_view name, std::span<const double> bounds, std::span<const double> cumulative) {
  if (cumulative.size() != bounds.size() + 1) return;
  Series* series = find_or_add(name, SeriesKind::quantiles);
  if (series == nullptr) return;
  series->touched_ms = now_ms_;
  std::vector<double> counts(cumulative.begin(), cumulative.end());
  for (std::size_t i = counts.size() - 1; i > 0; --i) counts[i] -= counts[i - 1];
  const bool same = std::ranges::equal(series->bounds, bounds);
  if (!same) {
    series->bounds.assign(bounds.begin(), bounds.end());
    for (Ring& ring : series->rings) ring.buckets.assign(counts.size(), 0.0);
  }
  if (same && series->has_last) {
    bool restarted = false;
    for (std::size_t i = 0; i < counts.size(); ++i) restarted = restarted || counts[i] < series->last_buckets[i];
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const double fresh = restarted ? counts[i] : counts[i] - series->last_buckets[i];
      if (fresh <= 0) continue;
      for (Ring& ring : series->rings) {
        ring.buckets[i] += fresh;
        ring.any = true;
      }
    }
  }
  series->has_last = true;
  series->last_buckets = std::move(counts);
}

std::vector<float> History::lane_values(const Series& series, std::size_t resolution, std::size_t lane) const {
  const auto slots = static_cast<std::int64_t>(kResolutions[resolution].slots);
  const std::size_t lanes = lanes_of(series.kind);
  const std::vector<float>& ring = series.rings[resolution].values;
  std::vector<float> out;
  out.reserve(kResolutions[resolution].slots);
  // The slot that is still being filled is left out: it would look like a dip.
  for (std::int64_t slot = current_[resolution] - slots + 1; slot < current_[resolution]; ++slot) {
    const auto at = static_cast<std::size_t>((slot % slots + slots) % slots);
    out.push_back(ring[at * lanes + lane]);
  }
  return out;
}

History::Table History::query(std::size_t resolution, std::span<const std::string> lanes,
                              std::size_t max_points) const {
  const Resolution& r = kResolutions[resolution];
  const std::size_t factor = factor_for(r.slots - 1, max_points);
  Table table{.from_ms = (current_[resolution] - static_cast<std::int64_t>(r.slots) + 1) * r.step_ms,
              .step_ms = r.step_ms * static_cast<std::int64_t>(factor)};
  for (const std::string& lane : lanes) {
    const auto colon = lane.rfind(':');
    const auto found = ids_.find(std::string_view(lane).substr(0, colon));
    if (colon == std::string::npos || found == ids_.end()) continue;
    const Series& series = *series_[found->second];
    const std::size_t number = lane_number(series.kind, std::string_view(lane).substr(colon + 1));
    if (number >= lanes_of(series.kind)) continue;
    const bool highest = series.kind == SeriesKind::quantiles || number == 1;
    table.columns.push_back({lane, thinned(lane_values(series, resolution, number), factor, highest)});
  }
  return table;
}

History::Table History::query_nodes(std::size_t resolution, std::string_view metric, std::string_view lane,
                                    std::size_t top, std::size_t max_points) const {
  Table table = query(resolution, {}, max_points);
  const std::size_t factor = factor_for(kResolutions[resolution].slots - 1, max_points);
  std::vector<std::pair<float, Column>> nodes;
  for (const auto& series : series_) {
    const std::string_view name = series->name;
    const std::size_t slash = name.rfind('/');
    if (!name.starts_with("node/") || slash < 5 || name.substr(slash + 1) != metric) continue;
    const std::size_t number = lane_number(series->kind, lane);
    if (number >= lanes_of(series->kind)) continue;
    const bool highest = series->kind == SeriesKind::quantiles || number == 1;
    Column column{std::string(name.substr(5, slash - 5)),
                  thinned(lane_values(*series, resolution, number), factor, highest)};
    const float mean = merged(column.values, false);
    if (!std::isnan(mean)) nodes.emplace_back(mean, std::move(column));
  }
  if (nodes.empty()) return table;
  const std::size_t points = nodes.front().second.values.size();
  Column low{"min", std::vector<float>(points, kNone)}, mean{"mean", low.values}, high{"max", low.values};
  std::vector<float> row;
  for (std::size_t i = 0; i < points; ++i) {
    row.clear();
    for (const auto& [score, column] : nodes)
      if (!std::isnan(column.values[i])) row.push_back(column.values[i]);
    if (row.empty()) continue;
    const auto [least, most] = std::ranges::minmax(row);
    low.values[i] = least;
    high.values[i] = most;
    mean.values[i] = merged(row, false);
  }
  for (Column* c : {&low, &mean, &high}) table.columns.push_back(std::move(*c));
  std::ranges::stable_sort(nodes, std::greater{}, [](const auto& n) { return n.first; });
  for (std::size_t i = 0; i < std::min(top, nodes.size()); ++i) table.columns.push_back(std::move(nodes[i].second));
  return table;
}

std::vector<History::SeriesView> History::series() const {
  std::vector<SeriesView> out;
  for (std::uint32_t id = 0; id < series_.size(); ++id)
    if (!series_[id]->name.empty()) out.push_back({series_[id]->name, series_[id]->kind, id});
  return out;
}

std::vector<float> History::at(std::uint32_t id, std::size_t resolution, std::int64_t slot) const {
  const Series& series = *series_[id];
  const auto slots = static_cast<std::int64_t>(kResolutions[resolution].slots);
  if (slot > current_[resolution] || slot <= current_[resolution] - slots) return {};
  const std::size_t lanes = lanes_of(series.kind);
  const float* values = series.rings[resolution].values.data() + static_cast<std::size_t>(slot % slots) * lanes;
  if (std::all_of(values, values + lanes, [](float v) { return std::isnan(v); })) return {};
  return {values, values + lanes};
}

void History::restore(std::string_view name, SeriesKind kind, std::size_t resolution, std::int64_t slot,
                      std::int64_t now_ms, std::span<const float> lanes) {
  const Resolution& r = kResolutions[resolution];
  const std::int64_t current = now_ms / r.step_ms;
  if (slot > current || slot <= current - static_cast<std::int64_t>(r.slots) || lanes.size() != lanes_of(kind)) return;
  now_ms_ = now_ms;
  if (current_[resolution] == 0) current_[resolution] = current;
  Series* series = find_or_add(name, kind);
  if (series == nullptr) return;
  series->touched_ms = std::max(series->touched_ms, slot * r.step_ms);
  std::ranges::copy(lanes, series->rings[resolution].values.begin() +
                               static_cast<std::ptrdiff_t>(static_cast<std::size_t>(slot) % r.slots * lanes.size()));
}

std::size_t History::bytes() const {
  std::size_t total = 0;
  for (const auto& series : series_) {
    total += sizeof(Series) + series->name.capacity();
    for (const Ring& ring : series->rings)
      total += ring.values.capacity() * sizeof(float) + ring.buckets.capacity() * sizeof(double);
  }
  return total;
}

}  // namespace hp::ops
