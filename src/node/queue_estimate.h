// How long until a full queue has room: the number in Retry-After. Learns how long requests run; safe from any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace hp {

class QueueEstimate {
 public:
  /// A request has run (not waited) for so long.
  void ran(Duration time);
  /// Whole seconds, at least 1, until `waiting` sequences ahead have begun with `running_max` at a time.
  [[nodiscard]] int retry_after_seconds(std::int32_t waiting, std::int32_t running_max) const;

 private:
  static constexpr double kWeight = 0.1;  ///< of the newest request in the running mean
  std::atomic<double> mean_seconds_{1.0};
};

}  // namespace hp
