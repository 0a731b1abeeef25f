// Who may send, and how much: tenants by the SHA-256 of their keys, requests and tokens per minute, requests at once.
// With no tenant configured everyone may. Thread-safe; keys are hashed when read and never kept or logged.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "gateway/wait_queue.h"

namespace hp::gateway {

struct TenantConfig {
  std::string name;
  std::vector<std::string> key_sha256;  ///< lower-case hex
  double requests_per_minute = 0;       ///< 0: no limit
  double tokens_per_minute = 0;
  std::int64_t concurrent = 0;
  Priority priority = Priority::normal;  ///< of its requests, and the highest that they may ask for
};

/// [[tenant]] tables: name, keys = ["…"] or key_sha256 = ["…"], requests_per_minute, tokens_per_minute, concurrent,
/// priority = "high" | "normal" | "low".
Result<std::vector<TenantConfig>> parse_tenants(std::string_view toml, std::string_view source);
/// One key per line, all of one tenant without limits; the same file that a node takes.
TenantConfig tenant_of_keys(std::string_view lines);

class Admission {
 public:
  struct Verdict {
    int status = 200;  ///< 401: unknown key; 429: a limit
    std::string tenant, message;
    std::int64_t retry_after_s = 0;
    std::optional<Priority> priority = std::nullopt;  ///< of the tenant; nothing where there are none
  };
  Admission(const Clock& clock, MetricsRegistry& metrics) : clock_(clock), metrics_(metrics) {}

  /// A tenant that stays keeps its counts.
  void configure(const std::vector<TenantConfig>& tenants);
  /// Whose key this is, without taking anything.
  Verdict identify(std::string_view authorization);
  /// On 200 a place and `cost_tokens` are taken; give them back with leave().
  Verdict enter(std::string_view authorization, std::int64_t cost_tokens);
  void leave(std::string_view tenant, std::int64_t cost_tokens, std::int64_t used_tokens);

 private:
  // Refilled steadily up to one minute's worth; may go below zero when a request used more than was reckoned.
  struct Bucket {
    double per_minute = 0, level = 0;
    TimePoint at{};
    void refill(TimePoint now);
    [[nodiscard]] std::int64_t seconds_until(double need) const;
  };
  struct Tenant {
    TenantConfig config;
    Bucket requests, tokens;
    std::int64_t open = 0;
  };
  Tenant* find_locked(std::string_view authorization);
  Verdict refuse(const Tenant& tenant, std::string_view what, std::int64_t retry_after_s);

  const Clock& clock_;
  MetricsRegistry& metrics_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Tenant>, std::less<>> tenants_;  // by name
  std::map<std::string, Tenant*, std::less<>> by_key_;                   // by SHA-256
};

}  // namespace hp::gateway
