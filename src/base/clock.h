// Time as a seam: schedulers, admission and alert rules take a Clock, so that tests can move time by hand.
#pragma once

#include <chrono>

namespace hp {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::steady_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
};

/// The machine's monotonic clock.
class SteadyClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return std::chrono::steady_clock::now(); }
};

/// Stands still until a test moves it.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return now_; }
  void advance(Duration d) { now_ += d; }

 private:
  TimePoint now_{};
};

/// Seconds as a double, for metrics and reports.
inline double to_seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace hp
