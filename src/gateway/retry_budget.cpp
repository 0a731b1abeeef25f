#include "gateway/retry_budget.h"

#include <algorithm>

#include "base/counter_rng.h"
#include "gateway/limits.h"

namespace hp::gateway {
namespace {
constexpr double kBudgetLimitFactor = 10;  // so many times the reserve can be saved up
}

void RetryBudget::on_request() {
  tokens_ = std::min(tokens_ + ratio_, limit_ * kBudgetLimitFactor);
}

bool RetryBudget::take() {
  if (tokens_ < 1) return false;
  tokens_ -= 1;
  return true;
}

std::chrono::milliseconds backoff(std::uint64_t key, int attempt) {
  const auto top = std::min<std::int64_t>(kBackoffBase.count() << std::clamp(attempt, 0, 16), kBackoffMax.count());
  const double u = uniform_at(key, static_cast<std::uint64_t>(attempt), 0);
  return std::chrono::milliseconds(static_cast<std::int64_t>(u * static_cast<double>(top)));
}

}  // namespace hp::gateway
