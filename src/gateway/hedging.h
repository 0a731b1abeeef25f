// When a request that has no first token yet is sent to a second node as well: rarely. The pace of first tokens, and
// how much extra work they may cost. Thread-safe.
#pragma once

#include <array>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "gateway/retry_budget.h"

namespace hp::gateway {

class Hedging {
 public:
  /// `share` of all streams may be sent twice; 0 turns hedging off.
  explicit Hedging(double share) : share_(share), budget_(share, 1) {}
  [[nodiscard]] bool on() const { return share_ > 0; }

  /// A stream of a short prompt got its first token.
  void note_first_token(Duration after);
  /// The 95th percentile of the latest ones; nothing before there are kHedgeMinSamples.
  [[nodiscard]] std::optional<Duration> late() const;
  void on_request();
  /// True: one hedge was taken from the budget.
  bool take();

 private:
  const double share_;
  mutable std::mutex mutex_;
  RetryBudget budget_;
  std::array<Duration, 256> ring_{};
  std::size_t count_ = 0;
  std::optional<Duration> late_;
};

}  // namespace hp::gateway
