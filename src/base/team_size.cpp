#include "base/team_size.h"

#include <algorithm>

namespace hp {
namespace {

using Seconds = TeamSize::Seconds;

constexpr Seconds kWindow{0.03};  // longer than a scheduler's slices
constexpr int kWindowRuns = 4;
constexpr Seconds kFirstPause{1}, kLongestPause{8};
constexpr double kSuspicious = 0.55;  // of the members at work: less is worth a trial
constexpr double kBetter = 1.1;       // more work than before by this much: kept

}  // namespace

void TeamSize::ran(Seconds now, Seconds span, Seconds work) {
  if (most_ == 1) return;
  ++runs_;
  span_ += span;
  work_ += work;
  if (span_ < kWindow) return;
  const double rate = work_ / span_;
  const bool hopeless = tried_ != kept_ && rate < kept_rate_ / 2;
  if (runs_ < kWindowRuns && !hopeless && span_ < Seconds{1}) return;
  runs_ = 0;
  span_ = work_ = Seconds{};
  judge(now, rate);
}

void TeamSize::judge(Seconds now, double rate) {
  if (tried_ == kept_) {
    kept_rate_ = rate;
    if (now >= next_trial_) try_another(rate);
    return;
  }
  if (rate > kept_rate_ * kBetter) {
    up_next_ = tried_ > kept_;
    kept_ = tried_;
    kept_rate_ = rate;
    pause_ = kFirstPause;
    next_trial_ = now;
    return;
  }
  up_next_ = tried_ < kept_;
  tried_ = kept_;
  next_trial_ = now + pause_;
  pause_ = std::min(2 * pause_, kLongestPause);
}

void TeamSize::try_another(double rate) {
  const bool down = kept_ > 1 && rate < kSuspicious * kept_, up = kept_ < most_;
  if (up && (up_next_ || !down)) {
    tried_ = std::min(most_, kept_ + std::max(1, kept_ / 3));
  } else if (down) {
    tried_ = kept_ - std::max(1, kept_ / 4);
  }
}

}  // namespace hp
