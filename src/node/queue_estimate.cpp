#include "node/queue_estimate.h"

#include <algorithm>
#include <cmath>

#include "node/limits.h"

namespace hp {

void QueueEstimate::ran(Duration time) {
  double mean = mean_seconds_.load(std::memory_order_relaxed);
  while (!mean_seconds_.compare_exchange_weak(mean, mean + kWeight * (to_seconds(time) - mean))) {
  }
}

int QueueEstimate::retry_after_seconds(std::int32_t waiting, std::int32_t running_max) const {
  const double rounds = static_cast<double>(std::max(waiting, 0)) / static_cast<double>(std::max(running_max, 1));
  const double seconds = std::ceil(rounds * mean_seconds_.load(std::memory_order_relaxed));
  return static_cast<int>(std::clamp(seconds, 1.0, static_cast<double>(kMaxRetryAfterSeconds)));
}

}  // namespace hp
