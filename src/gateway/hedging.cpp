#include "gateway/hedging.h"

#include <algorithm>
#include <vector>

#include "gateway/limits.h"

namespace hp::gateway {
namespace {
constexpr std::size_t kRecount = 16;  // new samples
}

void Hedging::note_first_token(Duration after) {
  if (!on()) return;
  const std::lock_guard lock(mutex_);
  ring_[count_++ % ring_.size()] = after;
  if (count_ < kHedgeMinSamples || (count_ % kRecount != 0 && late_)) return;
  std::vector<Duration> sorted(ring_.begin(),
                               ring_.begin() + static_cast<std::ptrdiff_t>(std::min(count_, ring_.size())));
  const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() * 95 / 100);
  std::nth_element(sorted.begin(), at, sorted.end());
  late_ = *at;
}

std::optional<Duration> Hedging::late() const {
  const std::lock_guard lock(mutex_);
  return late_;
}

void Hedging::on_request() {
  if (!on()) return;
  const std::lock_guard lock(mutex_);
  budget_.on_request();
}

bool Hedging::take() {
  const std::lock_guard lock(mutex_);
  return on() && budget_.take();
}

}  // namespace hp::gateway
