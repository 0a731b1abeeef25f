// A node's circuit breaker: a pure state machine over the time it is given. What counts as which outcome is decided by
// classify(): a client's mistake is no fault of the node, and a full node is not a broken one.
#pragma once

#include <chrono>

#include "base/clock.h"

namespace hp::gateway {

enum class Outcome { success, failure, back_pressure };

/// 4xx proves that the node works; 429 and 503 say "not now"; other 5xx are faults.
Outcome classify(int status);

enum class BreakerState { closed, open, half_open };

struct BreakerOptions {
  int consecutive_failures = 3;  ///< in a row
  double failure_ratio = 0.5;    ///< or this share of a window with at least min_failures
  double min_failures = 5;
  Duration window = std::chrono::seconds(10);
  Duration open_min = std::chrono::milliseconds(500);  ///< doubles with each failed probe
  Duration open_max = std::chrono::seconds(15);
  Duration probe_timeout = std::chrono::seconds(10);  ///< a probe that never reports gives its place back
};

class Breaker {
 public:
  explicit Breaker(BreakerOptions options = {}) : options_(options) {}

  /// Whether acquire() would say yes; changes nothing.
  [[nodiscard]] bool allows(TimePoint now) const;
  /// True: a request may go; in half_open it is the one probe and its report decides.
  bool acquire(TimePoint now);
  void report(Outcome outcome, TimePoint now);
  /// Opens at once: the node was seen dead (a stall, a failed liveness probe).
  void trip(TimePoint now);
  /// The node's process is a new one: nothing of the old one's record counts.
  void reset();

  [[nodiscard]] BreakerState state(TimePoint now) const;

 private:
  void open(TimePoint now);
  void decay(TimePoint now);

  BreakerOptions options_;
  bool open_ = false;
  bool probing_ = false;
  int streak_ = 0, trips_ = 0;
  double failures_ = 0, total_ = 0;
  TimePoint seen_{}, open_until_{}, probe_since_{};
};

}  // namespace hp::gateway
