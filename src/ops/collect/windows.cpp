#include "ops/collect/windows.h"

#include <algorithm>
#include <cmath>

#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kFineStepMs = 900, kFineSpanMs = 31 * 60'000;
constexpr std::int64_t kCoarseStepMs = 150'000, kCoarseSpanMs = 3 * 86'400'000LL + kCoarseStepMs;
constexpr std::int64_t kHistogramStepMs = 2'000, kHistogramSpanMs = 11 * 60'000;
static_assert(kFineSpanMs / kFineStepMs < 2'100 && kCoarseSpanMs / kCoarseStepMs < 2'048);

/// The last of the points that is not after the moment, else the first.
template <typename Points>
auto at_or_first(const Points& points, std::int64_t at_ms) {
  const auto after = std::upper_bound(points.begin(), points.end(), at_ms,
                                      [](std::int64_t t, const auto& point) { return t < point.at_ms; });
  return after == points.begin() ? points.begin() : after - 1;
}

}  // namespace

void CounterWindow::add(std::int64_t at_ms, double total) {
  if (!std::isfinite(total)) return;
  if (fine_.empty()) {
    last_total_ = total;
    fine_.push_back({at_ms, 0});
    coarse_.push_back({at_ms, 0});
    last_ms_ = at_ms;
    return;
  }
  if (at_ms <= last_ms_) return;
  grown_ += total >= last_total_ ? total - last_total_ : total;
  last_total_ = total;
  last_ms_ = at_ms;
  if (at_ms - fine_.back().at_ms >= kFineStepMs) fine_.push_back({at_ms, grown_});
  while (fine_.size() > 2 && fine_[1].at_ms <= at_ms - kFineSpanMs) fine_.pop_front();
  if (at_ms - coarse_.back().at_ms >= kCoarseStepMs) coarse_.push_back({at_ms, grown_});
  while (coarse_.size() > 2 && coarse_[1].at_ms <= at_ms - kCoarseSpanMs) coarse_.pop_front();
}

void CounterWindow::recall(std::span<const Growth> past) {
  if (fine_.empty()) return;
  const std::int64_t now_ms = last_ms_;
  const auto put = [](std::deque<Point>& points, const Point& point) {
    if (point.at_ms < points.front().at_ms) points.push_front(point);
  };
  double grown = fine_.front().grown;
  for (auto it = past.rbegin(); it != past.rend() && it->from_ms > now_ms - kCoarseSpanMs; ++it) {
    if (it->until_ms > fine_.front().at_ms || coarse_.size() >= limits::kMaxWindowSnapshots) continue;
    const Point end{it->until_ms, grown}, begin{it->from_ms, grown -= it->amount};
    for (const Point& point : {end, begin}) {
      put(coarse_, point);
      if (point.at_ms > now_ms - kFineSpanMs) put(fine_, point);
    }
  }
}

std::optional<CounterWindow::Point> CounterWindow::before(std::int64_t at_ms) const {
  if (fine_.empty() || last_ms_ == fine_.front().at_ms) return std::nullopt;
  if (fine_.front().at_ms <= at_ms || coarse_.front().at_ms >= fine_.front().at_ms) return *at_or_first(fine_, at_ms);
  return *at_or_first(coarse_, at_ms);
}

std::optional<double> CounterWindow::increase(std::int64_t window_ms) const {
  const auto point = before(last_ms_ - window_ms);
  if (!point) return std::nullopt;
  return grown_ - point->grown;
}

std::optional<double> CounterWindow::rate(std::int64_t window_ms) const {
  const auto point = before(last_ms_ - window_ms);
  if (!point || point->at_ms >= last_ms_) return std::nullopt;
  return (grown_ - point->grown) * 1000 / static_cast<double>(last_ms_ - point->at_ms);
}

void HistogramWindow::add(std::int64_t at_ms, std::span<const double> bounds, std::span<const double> cumulative) {
  if (cumulative.size() != bounds.size() + 1) return;
  if (points_.empty() || !std::ranges::equal(bounds, bounds_)) {
    bounds_.assign(bounds.begin(), bounds.end());
    totals_.assign(cumulative.begin(), cumulative.end());
    grown_.assign(cumulative.size(), 0);
    points_.assign(1, Point{at_ms, grown_});
    last_ms_ = at_ms;
    return;
  }
  if (at_ms <= last_ms_) return;
  const bool anew = cumulative.back() < totals_.back();
  for (std::size_t i = 0; i < grown_.size(); ++i) grown_[i] += anew ? cumulative[i] : cumulative[i] - totals_[i];
  totals_.assign(cumulative.begin(), cumulative.end());
  last_ms_ = at_ms;
  if (at_ms - points_.back().at_ms >= kHistogramStepMs) points_.push_back({at_ms, grown_});
  while (points_.size() > 2 && points_[1].at_ms <= at_ms - kHistogramSpanMs) points_.pop_front();
}

const HistogramWindow::Point* HistogramWindow::before(std::int64_t at_ms) const {
  return points_.empty() || last_ms_ == points_.front().at_ms ? nullptr : &*at_or_first(points_, at_ms);
}

std::vector<double> HistogramWindow::increase(std::int64_t window_ms) const {
  const Point* point = before(last_ms_ - window_ms);
  if (point == nullptr || grown_.back() - point->grown.back() <= 0) return {};
  std::vector<double> out(grown_.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = grown_[i] - point->grown[i];
  return out;
}

double HistogramWindow::seconds(std::int64_t window_ms) const {
  const Point* point = before(last_ms_ - window_ms);
  return point == nullptr ? 0 : static_cast<double>(last_ms_ - point->at_ms) / 1000;
}

std::optional<double> quantile(double share, std::span<const double> bounds, std::span<const double> cumulative) {
  if (cumulative.empty() || cumulative.back() <= 0 || cumulative.size() != bounds.size() + 1) return std::nullopt;
  const double rank = share * cumulative.back();
  const auto slot = static_cast<std::size_t>(
      std::find_if(cumulative.begin(), cumulative.end(), [&](double c) { return c >= rank; }) - cumulative.begin());
  if (slot >= bounds.size()) return bounds.empty() ? std::nullopt : std::optional(bounds.back());
  const double low = slot == 0 ? 0 : bounds[slot - 1], before = slot == 0 ? 0 : cumulative[slot - 1];
  const double inside = cumulative[slot] - before;
  return inside <= 0 ? bounds[slot] : low + (bounds[slot] - low) * (rank - before) / inside;
}

}  // namespace hp::ops
