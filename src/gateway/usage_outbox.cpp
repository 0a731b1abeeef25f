#include "gateway/usage_outbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "gateway/limits.h"

namespace hp::gateway {
namespace {

// hp:u:<stream>: tokens, the most that anybody settled; prompt, 1 when it is counted; <settlement>, what that one was
// granted as <tokens>:<prompt>.
constexpr std::string_view kSettleScript = R"(
local key = 'hp:u:' .. ARGV[1]
local granted = redis.call('HGET', key, ARGV[3])
if not granted then
  local counted = tonumber(redis.call('HGET', key, 'tokens') or 0)
  local tokens, prompt = tonumber(ARGV[4]), 0
  if tokens > counted then redis.call('HSET', key, 'tokens', tokens) end
  if ARGV[5] == '1' then prompt = redis.call('HSETNX', key, 'prompt', 1) end
  granted = math.max(0, tokens - counted) .. ':' .. prompt
  redis.call('HSET', key, ARGV[3], granted)
end
redis.call('EXPIRE', key, ARGV[6])
local stream = 'hp:s:' .. ARGV[1]
if ARGV[7] == '1' and redis.call('HGET', stream, 'epoch') == ARGV[2] then redis.call('HSET', stream, 'owner', '') end
redis.call('EXPIRE', stream, ARGV[6])
redis.call('EXPIRE', 'hp:j:' .. ARGV[1] .. ':' .. ARGV[2], ARGV[6])
return granted)";

struct Grant {
  std::uint64_t tokens = 0;
  bool prompt = false;
};

std::optional<Grant> parse_grant(const Result<store::Reply>& reply) {
  if (!reply || reply->kind != store::Reply::Kind::text) return std::nullopt;
  Grant grant;
  const std::string& text = reply->text;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, grant.tokens);
  if (error != std::errc() || last - end != 2 || *end != ':') return std::nullopt;
  grant.prompt = end[1] == '1';
  return grant;
}

}  // namespace

UsageOutbox::UsageOutbox(store::Redis& redis, const Clock& clock, std::string gateway, std::int64_t ttl_s,
                         MetricsRegistry& r)
    : redis_(redis),
      clock_(clock),
      gateway_(std::move(gateway)),
      ttl_s_(ttl_s),
      waiting_(r.gauge("homeport_gateway_usage_unsettled", "Ends of streams whose usage Redis has not heard of")),
      doubled_(r.counter("homeport_gateway_usage_doubled_tokens_total",
                         "Tokens that this gateway counted while Redis was away and another one had counted too")) {}

void UsageOutbox::add(Settlement settlement) {
  std::optional<Entry> pushed_out;
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = ++next_;
    entries_.emplace(number, Entry{.settlement = std::move(settlement), .since = clock_.now()});
    if (entries_.size() > kMaxOutbox) pushed_out = std::move(entries_.extract(entries_.begin()).mapped());
    waiting_.set(static_cast<double>(entries_.size()));
  }
  if (pushed_out && !pushed_out->counted) pushed_out->settlement.count(pushed_out->settlement.fresh);
  send(number, true);
}

// `give_back`: at the end itself. Later the stream may be ours again.
void UsageOutbox::send(std::uint64_t number, bool give_back) {
  if (!redis_.available()) return;
  std::vector<std::string> command{"EVAL", std::string(kSettleScript), "0"};
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(number);
    if (found == entries_.end() || std::exchange(found->second.sent, true)) return;
    const Settlement& s = found->second.settlement;
    for (std::string word : {s.stream, std::to_string(s.epoch), fmt::format("{}:{}", gateway_, number),
                             std::to_string(s.total.tokens), std::string(s.total.prompt_tokens > 0 ? "1" : "0"),
                             std::to_string(ttl_s_), std::string(give_back ? "1" : "0")})
      command.push_back(std::move(word));
  }
  redis_.send(std::move(command), [this, number](const Result<store::Reply>& reply) { on_reply(number, reply); });
}

void UsageOutbox::on_reply(std::uint64_t number, const Result<store::Reply>& reply) {
  const auto grant = parse_grant(reply);
  Entry entry;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(number);
    if (found == entries_.end()) return;
    if (!grant) {
      found->second.sent = false;
      return;
    }
    entry = std::move(entries_.extract(found).mapped());
    waiting_.set(static_cast<double>(entries_.size()));
  }
  // After Redis was emptied it grants what this gateway has counted before: `fresh` knows better.
  const Usage fresh = entry.settlement.fresh;
  const Usage ours{.tokens = std::min(grant->tokens, fresh.tokens),
                   .prompt_tokens = grant->prompt ? fresh.prompt_tokens : 0};
  if (entry.counted)
    doubled_.add(static_cast<double>(fresh.tokens - ours.tokens + fresh.prompt_tokens - ours.prompt_tokens));
  else
    entry.settlement.count(ours);
}

void UsageOutbox::flush(TimePoint now) {
  std::vector<std::uint64_t> unsent;
  std::vector<std::pair<std::function<void(Usage)>, Usage>> overdue;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = entries_.begin(); at != entries_.end();) {
      auto& [number, entry] = *at;
      const Duration age = now - entry.since;
      if (age > kOutboxHold && !std::exchange(entry.counted, true))
        overdue.emplace_back(entry.settlement.count, entry.settlement.fresh);
      // By now nobody can take the stream up and count it again.
      const bool over = !entry.sent && age > kOutboxHold + std::chrono::seconds(ttl_s_);
      if (!over && !entry.sent && unsent.size() < kOutboxBatch) unsent.push_back(number);
      at = over ? entries_.erase(at) : std::next(at);
    }
    waiting_.set(static_cast<double>(entries_.size()));
  }
  for (const auto& [count, usage] : overdue) count(usage);
  for (const std::uint64_t number : unsent) send(number, false);
}

}  // namespace hp::gateway
