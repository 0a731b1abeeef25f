// When a child process that ended is started again: pure, over the times it is given. A process that lived long is
// back at once; one that keeps dying young waits longer each time.
#pragma once

#include "base/clock.h"

namespace hp::fleet {

struct RestartOptions {
  Duration first = std::chrono::milliseconds(100);
  Duration longest = std::chrono::seconds(30);
  Duration stable = std::chrono::seconds(60);  ///< having lived so long clears the record
};

class RestartPolicy {
 public:
  explicit RestartPolicy(RestartOptions options = {}) : options_(options) {}
  void on_start(TimePoint now) { started_ = now; }
  /// The time to start again.
  TimePoint on_exit(TimePoint now);
  /// Deaths in a row without a stable life between them.
  [[nodiscard]] int young_deaths() const { return young_deaths_; }

 private:
  RestartOptions options_;
  TimePoint started_{};
  int young_deaths_ = 0;
};

}  // namespace hp::fleet
