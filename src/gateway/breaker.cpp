#include "gateway/breaker.h"

#include <algorithm>
#include <cmath>

namespace hp::gateway {

Outcome classify(int status) {
  if (status == 429 || status == 503) return Outcome::back_pressure;
  return status >= 500 ? Outcome::failure : Outcome::success;
}

BreakerState Breaker::state(TimePoint now) const {
  if (!open_) return BreakerState::closed;
  return now < open_until_ ? BreakerState::open : BreakerState::half_open;
}

bool Breaker::allows(TimePoint now) const {
  switch (state(now)) {
    case BreakerState::closed:
      return true;
    case BreakerState::open:
      return false;
    case BreakerState::half_open:
      return !probing_ || now - probe_since_ > options_.probe_timeout;
  }
  return false;
}

bool Breaker::acquire(TimePoint now) {
  if (!allows(now)) return false;
  if (open_) {
    probing_ = true;
    probe_since_ = now;
  }
  return true;
}

void Breaker::decay(TimePoint now) {
  const double factor = std::exp(-to_seconds(now - seen_) / to_seconds(options_.window));
  failures_ *= factor;
  total_ *= factor;
  seen_ = now;
}

void Breaker::report(Outcome outcome, TimePoint now) {
  if (outcome == Outcome::back_pressure) {
    probing_ = false;  // says nothing about health: the next request may probe
    return;
  }
  if (open_ && now < open_until_) return;  // a late report of a request from before the opening
  decay(now);
  total_ += 1;
  if (outcome == Outcome::success) {
    streak_ = 0;
    if (open_) reset();
    return;
  }
  failures_ += 1;
  ++streak_;
  const bool often = failures_ >= options_.min_failures && failures_ >= options_.failure_ratio * total_;
  if (open_ || streak_ >= options_.consecutive_failures || often) open(now);
}

void Breaker::trip(TimePoint now) {
  if (open_ && now < open_until_) return;
  open(now);
}

void Breaker::open(TimePoint now) {
  open_ = true;
  probing_ = false;
  const Duration pause = options_.open_min * (std::int64_t{1} << std::min(trips_, 16));
  open_until_ = now + std::min(pause, options_.open_max);
  ++trips_;
}

void Breaker::reset() {
  open_ = probing_ = false;
  streak_ = trips_ = 0;
  failures_ = total_ = 0;
}

}  // namespace hp::gateway
