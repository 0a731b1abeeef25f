#include "fleet/restart_policy.h"

#include <algorithm>

namespace hp::fleet {

TimePoint RestartPolicy::on_exit(TimePoint now) {
  young_deaths_ = now - started_ >= options_.stable ? 0 : young_deaths_ + 1;
  const Duration pause = options_.first * (std::int64_t{1} << std::clamp(young_deaths_ - 1, 0, 20));
  return now + std::min(pause, options_.longest);
}

}  // namespace hp::fleet
