// What the business watches: requests, tokens, time-outs and refusals per tenant, and what counts as a refusal. A reply
// is refused when the model ends it with content_filter, or when it begins with a phrase of a list.
#pragma once

#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"

namespace hp::gateway {

/// The shipped list, Chinese and English.
std::vector<std::string> default_refusal_phrases();
/// One phrase per line; empty lines and lines from '#' on are for people.
std::vector<std::string> parse_refusal_phrases(std::string_view text);

class Business {
 public:
  Business(MetricsRegistry& metrics, std::vector<std::string> phrases);

  void request(const std::string& tenant) { counters(tenant).requests.add(); }
  void tokens(const std::string& tenant, double prompt, double completion);
  void timed_out(const std::string& tenant, const std::string& model);
  /// `by`: content_filter or phrase.
  void refused(const std::string& tenant, const std::string& model, std::string_view by);
  [[nodiscard]] bool is_refusal(std::string_view beginning) const;

 private:
  // What each request counts, so that the registry is asked once a tenant.
  struct TenantCounters {
    Counter &requests, &prompt_tokens, &completion_tokens;
  };
  TenantCounters& counters(const std::string& tenant);

  MetricsRegistry& metrics_;
  std::mutex mutex_;
  std::unordered_map<std::string, TenantCounters> tenants_;
  std::vector<std::string> phrases_;  // in lower case
  Counter& timeouts_;
};

/// Listens to the beginning of one reply. After kMaxRefusalBytes it is deaf and costs nothing.
class RefusalEar {
 public:
  static constexpr std::size_t kMaxRefusalBytes = 240;
  /// A chunk's or an answer's JSON.
  void hear(std::string_view json, std::string_view finish_reason);
  [[nodiscard]] bool filtered() const { return filtered_; }
  [[nodiscard]] const std::string& beginning() const { return beginning_; }

 private:
  std::string beginning_;
  bool filtered_ = false;
};

}  // namespace hp::gateway
