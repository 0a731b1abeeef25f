// Limits that count over several gateways: each tells Redis every kQuotaSync what its tenants took and learns what the
// others took. No request waits for it: a tenant may get ahead by what the other gateways let in within one round.
// While Redis is away each gateway allows its share, the limit divided by the gateways that were there last.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "gateway/admission.h"
#include "store/redis.h"

namespace hp::gateway {

class SharedQuota {
 public:
  /// `id`: of this gateway.
  SharedQuota(store::Redis& redis, Admission& admission, const Clock& clock, std::string id, MetricsRegistry& metrics);
  /// From any thread, often: does something when it is time to.
  void sync(TimePoint now);

 private:
  struct Total {
    double requests = 0, tokens = 0;
  };
  void send(std::vector<TenantShare> shares);
  void take(const std::vector<TenantShare>& shares, const store::Reply& reply);

  store::Redis& redis_;
  Admission& admission_;
  const std::string id_;
  Gauge& gateways_gauge_;
  Counter& rounds_;
  std::atomic<std::int64_t> synced_;
  std::atomic<std::size_t> gateways_{1}, tenants_{0};
  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::map<std::string, Total, std::less<>> totals_;  // of all gateways, when we last looked
};

}  // namespace hp::gateway
