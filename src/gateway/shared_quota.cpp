#include "gateway/shared_quota.h"

#include <algorithm>
#include <charconv>

#include "gateway/limits.h"

namespace hp::gateway {
namespace {
using store::Reply;

// hp:q:<tenant>: r and t, all that was ever taken; o:<gateway>, what is open there and when it said so.
constexpr std::string_view kScript = R"(
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out, gateways = {}, 1
for i = 2, #ARGV, 4 do
  local key = 'hp:q:' .. ARGV[i]
  local r = redis.call('HINCRBYFLOAT', key, 'r', ARGV[i + 1])
  local k = redis.call('HINCRBYFLOAT', key, 't', ARGV[i + 2])
  redis.call('HSET', key, 'o:' .. ARGV[1], ARGV[i + 3] .. ':' .. now)
  redis.call('EXPIRE', key, 3600)
  local open, there = 0, 1
  local all = redis.call('HGETALL', key)
  for f = 1, #all, 2 do
    if string.sub(all[f], 1, 2) == 'o:' and all[f] ~= 'o:' .. ARGV[1] then
      local count, at = string.match(all[f + 1], '^(%-?%d+):(%d+)$')
      local age = now - tonumber(at or 0)
      if age < 3000 then
        open, there = open + tonumber(count), there + 1
      elseif age > 60000 then
        redis.call('HDEL', key, all[f])
      end
    end
  end
  gateways = math.max(gateways, there)
  table.insert(out, {r, k, open})
end
table.insert(out, gateways)
return out)";

double number(const std::string& text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

SharedQuota::SharedQuota(store::Redis& redis, Admission& admission, const Clock& clock, std::string id,
                         MetricsRegistry& r)
    : redis_(redis),
      admission_(admission),
      id_(std::move(id)),
      gateways_gauge_(r.gauge("homeport_gateway_quota_gateways", "Gateways that count the tenants' limits together")),
      rounds_(r.counter("homeport_gateway_quota_rounds_total", "Exchanges of what tenants took")),
      synced_(clock.now().time_since_epoch().count()) {}

void SharedQuota::sync(TimePoint now) {
  const auto pause = kQuotaSync * (1 + tenants_.load() / kQuotaTenantsPerRound);
  const std::int64_t last = synced_.load();
  if (now - TimePoint(Duration(last)) < pause || busy_.exchange(true)) return;
  synced_ = now.time_since_epoch().count();
  if (!redis_.available()) {
    admission_.split(gateways_);
    busy_ = false;
    return;
  }
  auto shares = admission_.collect();
  tenants_ = shares.size();
  if (shares.empty()) {
    busy_ = false;
    return;
  }
  send(std::move(shares));
}

void SharedQuota::send(std::vector<TenantShare> shares) {
  std::vector<std::string> command{"EVAL", std::string(kScript), "0", id_};
  for (const TenantShare& share : shares)
    for (std::string word :
         {share.tenant, fmt::format("{}", share.requests), fmt::format("{}", share.tokens), std::to_string(share.open)})
      command.push_back(std::move(word));
  redis_.send(std::move(command), [this, shares = std::move(shares)](const Result<Reply>& reply) {
    const bool heard = reply && reply->list.size() == shares.size() + 1;
    if (heard)
      take(shares, *reply);
    else
      admission_.give_back(shares);  // said again in the next round
    busy_ = false;
    if (heard) rounds_.add();
  });
}

void SharedQuota::take(const std::vector<TenantShare>& shares, const Reply& reply) {
  const std::lock_guard lock(mutex_);
  gateways_ = static_cast<std::size_t>(std::max<std::int64_t>(1, reply.list.back().integer));
  gateways_gauge_.set(static_cast<double>(gateways_.load()));
  admission_.split(1);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const auto& field = reply.list[i].list;
    if (field.size() != 3) continue;
    const Total now{.requests = number(field[0].text), .tokens = number(field[1].text)};
    const auto before = totals_.find(shares[i].tenant);
    TenantShare others{.tenant = shares[i].tenant, .open = field[2].integer};
    // At first sight, and after the store was emptied, what was taken earlier is not known.
    if (before != totals_.end() && now.requests >= before->second.requests) {
      others.requests = std::max(0.0, now.requests - before->second.requests - shares[i].requests);
      others.tokens = now.tokens - before->second.tokens - shares[i].tokens;
    }
    totals_[shares[i].tenant] = now;
    admission_.apply_others(others);
  }
}

}  // namespace hp::gateway
