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

/// What a tenant took since the last look, and has open; of this gateway or of the others together.
struct TenantShare {
  std::string tenant;
  double requests = 0, tokens = 0;
  std::int64_t open = 0;
};

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
  /// The same for a request that proves its tenant by other means than a key.
  Verdict enter_as(std::string_view tenant, std::int64_t cost_tokens);
  /// Without a key nobody is let in.
  [[nodiscard]] bool wants_keys();
  /// A word that only this process knows: who sends it as its Authorization is let in, without limits.
  void set_inside(std::string authorization);
  static constexpr std::string_view kInsideTenant = "(console)";
  void leave(std::string_view tenant, std::int64_t cost_tokens, std::int64_t used_tokens);
  /// Tokens of a request that has no place.
  void spend(std::string_view tenant, std::int64_t tokens);

  // Counting with other gateways (shared_quota.h): tenants with limits only.
  [[nodiscard]] std::vector<TenantShare> collect();
  void give_back(const std::vector<TenantShare>& shares);  ///< collected, but nobody heard of it
  void apply_others(const TenantShare& others);
  /// So many gateways share each limit without knowing of one another; 1: no share, others are counted.
  void split(std::size_t gateways);

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
    std::int64_t open = 0, others_open = 0;
    double taken_requests = 0, taken_tokens = 0;  // since the last collect()
    [[nodiscard]] bool limited() const {
      return config.requests_per_minute > 0 || config.tokens_per_minute > 0 || config.concurrent > 0;
    }
  };
  void set_rates_locked(Tenant& tenant) const;
  void spend_locked(Tenant& tenant, std::int64_t tokens) const;
  Tenant* find_locked(std::string_view authorization);
  [[nodiscard]] bool is_inside_locked(std::string_view authorization) const;
  Verdict enter_locked(Tenant* tenant, std::int64_t cost_tokens);
  Verdict refuse(const Tenant& tenant, std::string_view what, std::int64_t retry_after_s);

  const Clock& clock_;
  MetricsRegistry& metrics_;
  std::mutex mutex_;
  std::size_t split_ = 1;
  std::string inside_sha256_;
  std::map<std::string, std::unique_ptr<Tenant>, std::less<>> tenants_;  // by name
  std::map<std::string, Tenant*, std::less<>> by_key_;                   // by SHA-256
};

}  // namespace hp::gateway
