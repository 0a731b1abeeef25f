#include "gateway/business.h"

#include <algorithm>
#include <cstring>

#include "base/json.h"

namespace hp::gateway {
namespace {

/// ASCII only: Chinese has no case, and a phrase in another script is compared as it is. A typographic apostrophe
/// counts as the plain one.
std::string folded(std::string_view text) {
  static constexpr std::string_view kApostrophe = "\xE2\x80\x99";
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, kApostrophe.size()) == kApostrophe) {
      out += '\'';
      i += kApostrophe.size() - 1;
    } else {
      out += text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
    }
  }
  return out;
}

std::size_t string_end(std::string_view json, std::size_t begin) {
  for (std::size_t i = begin; i < json.size(); ++i) {
    if (json[i] == '\\')
      ++i;
    else if (json[i] == '"')
      return i;
  }
  return std::string_view::npos;
}

}  // namespace

std::vector<std::string> default_refusal_phrases() {
  return {"I can't assist with", "I cannot assist with", "I can't help with",    "I cannot help with",
          "I'm unable to help",  "I am unable to help",  "I'm sorry, but I can", "I cannot fulfill",
          "I can't fulfill",     "I must decline",       "我无法协助",           "我无法提供",
          "我不能提供",          "我不能协助",           "我无法回答",           "我不能回答",
          "很抱歉，我无法",      "抱歉，我不能",         "对不起，我不能",       "无法满足您的请求"};
}

std::vector<std::string> parse_refusal_phrases(std::string_view text) {
  std::vector<std::string> phrases;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (!line.empty() && line.front() != '#') phrases.emplace_back(line);
  }
  return phrases;
}

Business::Business(MetricsRegistry& metrics, std::vector<std::string> phrases)
    : metrics_(metrics),
      timeouts_(metrics.counter("homeport_gateway_timeouts_total",
                                "Requests that a time limit ended, the gateway's or their own")) {
  // There from the start: a rate needs a first value.
  metrics_.counter("homeport_refusals_total", "Replies that the model refused",
                   {{"tenant", ""}, {"model", ""}, {"by", "content_filter"}});
  for (const std::string& phrase : phrases) phrases_.push_back(folded(phrase));
}

Business::TenantCounters& Business::counters(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  if (const auto found = tenants_.find(tenant); found != tenants_.end()) return found->second;
  const Labels labels{{"tenant", tenant}};
  return tenants_
      .emplace(tenant, TenantCounters{metrics_.counter("homeport_tenant_requests_total", "Requests by tenant", labels),
                                      metrics_.counter("homeport_tenant_prompt_tokens_total",
                                                       "Prompt tokens by tenant, each request once", labels),
                                      metrics_.counter("homeport_tenant_completion_tokens_total",
                                                       "Reply tokens by tenant, each token once", labels)})
      .first->second;
}

void Business::tokens(const std::string& tenant, double prompt, double completion) {
  TenantCounters& of_tenant = counters(tenant);
  of_tenant.prompt_tokens.add(prompt);
  of_tenant.completion_tokens.add(completion);
}

void Business::timed_out(const std::string& tenant, const std::string& model) {
  timeouts_.add();
  metrics_
      .counter("homeport_tenant_timeouts_total", "Requests ended by a time limit, by tenant and model",
               {{"tenant", tenant}, {"model", model}})
      .add();
}

void Business::refused(const std::string& tenant, const std::string& model, std::string_view by) {
  metrics_
      .counter("homeport_refusals_total", "Replies that the model refused",
               {{"tenant", tenant}, {"model", model}, {"by", std::string(by)}})
      .add();
  metrics_.counter("homeport_tenant_refusals_total", "Refused replies by tenant", {{"tenant", tenant}}).add();
}

bool Business::is_refusal(std::string_view beginning) const {
  const std::string text = folded(beginning);
  return std::ranges::any_of(phrases_, [&](const std::string& p) { return text.find(p) != std::string::npos; });
}

void RefusalEar::hear(std::string_view json, std::string_view finish_reason) {
  static constexpr std::string_view kContent = "\"content\":\"", kFiltered = "\"finish_reason\":\"content_filter\"";
  if (finish_reason == "content_filter" ||
      (finish_reason.empty() && ::memmem(json.data(), json.size(), kFiltered.data(), kFiltered.size()) != nullptr))
    filtered_ = true;
  if (beginning_.size() >= kMaxRefusalBytes) return;
  const auto at = json.find(kContent);
  if (at == std::string_view::npos) return;
  const std::size_t begin = at + kContent.size(), end = string_end(json, begin);
  if (end == std::string_view::npos) return;
  // Unescaped by the one who knows how; a reply's beginning is all that is wanted of a long answer.
  const auto text = JsonValue::parse(json.substr(begin - 1, end - begin + 2));
  if (text && text->as_string() != nullptr)
    beginning_.append(*text->as_string(), 0, kMaxRefusalBytes - std::min(kMaxRefusalBytes, beginning_.size()));
}

}  // namespace hp::gateway
