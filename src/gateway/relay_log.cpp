// What remains of a relay's request: its share of the figures and its line in the access log.
#include <chrono>

#include "base/json.h"
#include "base/json_peek.h"
#include "gateway/access_line.h"
#include "gateway/relay.h"

namespace hp::gateway {
namespace {

std::uint64_t count_in(const JsonValue& usage, std::string_view key) {
  const JsonValue* value = usage.find(key);
  return value != nullptr ? static_cast<std::uint64_t>(std::max<std::int64_t>(0, value->as_int().value_or(0))) : 0;
}

std::int64_t unix_ms_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::string_view without_query(std::string_view target) {
  return target.substr(0, target.find('?'));
}

}  // namespace

void Relay::note_first_token() {
  const double seconds = to_seconds(core_.clock.now() - started_);
  first_token_ms_ = seconds * 1000;
  if (peek().prompt_bytes <= kHedgeMaxPromptBytes) core_.hedging.note_first_token(core_.clock.now() - started_);
  core_.metrics.first_token.observe(seconds);
}

void Relay::note_whole_usage() {
  if (body_.find("\"usage\"") == std::string::npos) return;
  std::string usage_text;
  const auto visited = visit_members(body_, [&](std::string_view key, std::string_view raw) {
    if (key == "usage") usage_text = raw;
  });
  const auto usage = visited ? JsonValue::parse(usage_text) : fail(ErrorCode::corrupt_data, "no usage");
  if (!usage) return;
  whole_prompt_tokens_ = count_in(*usage, "prompt_tokens");
  whole_tokens_ = whole_prompt_tokens_ + count_in(*usage, "completion_tokens");
  core_.metrics.prompt_tokens.add(static_cast<double>(whole_prompt_tokens_));
  core_.metrics.completion_tokens.add(static_cast<double>(whole_tokens_ - whole_prompt_tokens_));
  core_.business.tokens(stream_->tenant, static_cast<double>(whole_prompt_tokens_),
                        static_cast<double>(whole_tokens_ - whole_prompt_tokens_));
}

void Relay::log_access(std::string_view outcome) const {
  const double ms = to_seconds(core_.clock.now() - started_) * 1000;
  AccessLine line{.trace = trace_.trace_id,
                  .stream = stream_->record.id(),
                  .tenant = stream_->tenant,
                  .method = method_,
                  .path = without_query(stream_->target),
                  .model = peek().model,
                  .outcome = outcome,
                  .status = answered_,
                  .streamed = peek().stream,
                  .reattached = reattached_,
                  .prompt_tokens = whole_prompt_tokens_,
                  .completion_tokens = whole_tokens_ - whole_prompt_tokens_,
                  .first_token_ms = first_token_ms_,
                  .ms = ms,
                  .attempts = static_cast<int>(last_attempt_),
                  .resumes = resumes_};
  if (peek().stream) {
    const std::lock_guard lock(stream_->mutex);
    line.prompt_tokens = stream_->record.prompt_tokens();
    line.completion_tokens = stream_->counted_tokens;
  }
  for (const NodeIndex node : served_by_) line.nodes.push_back(core_.nodes.config(node).name);
  core_.access->write(access_json(line, unix_ms_now() - static_cast<std::int64_t>(ms)));
}

}  // namespace hp::gateway
