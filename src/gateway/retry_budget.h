// How often the gateway may repeat requests, over all of them: retries are at most a share of the requests, so that a
// fleet in trouble does not get more load than it was sent. Resuming a started stream is not a retry and is never
// refused: it is the promise.
#pragma once

#include <chrono>
#include <cstdint>

namespace hp::gateway {

class RetryBudget {
 public:
  /// `ratio` retries per request; `reserve` may be used before any were earned.
  explicit RetryBudget(double ratio = 0.1, double reserve = 10) : ratio_(ratio), limit_(reserve), tokens_(reserve) {}
  void on_request();
  /// True: one retry was taken from the budget.
  bool take();
  [[nodiscard]] double tokens() const { return tokens_; }

 private:
  double ratio_, limit_, tokens_;
};

/// Full jitter: uniform in [0, min(base · 2^attempt, max)), a pure function of (key, attempt).
std::chrono::milliseconds backoff(std::uint64_t key, int attempt);

}  // namespace hp::gateway
