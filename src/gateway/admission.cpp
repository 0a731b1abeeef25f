#include "gateway/admission.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/toml.h"
#include "net/sha256.h"

namespace hp::gateway {
namespace {

constexpr std::string_view kBearer = "Bearer ";
constexpr std::string_view kInside = "Inside ";

Result<std::vector<std::string>> strings(const JsonValue& table, std::string_view key) {
  std::vector<std::string> out;
  const JsonValue* list = table.find(key);
  if (list == nullptr) return out;
  if (list->as_array() == nullptr) return fail(ErrorCode::invalid_argument, "'{}' must be a list of strings", key);
  for (const JsonValue& item : *list->as_array()) {
    if (item.as_string() == nullptr) return fail(ErrorCode::invalid_argument, "'{}' must be a list of strings", key);
    out.push_back(*item.as_string());
  }
  return out;
}

Result<TenantConfig> parse_tenant(const JsonValue& table) {
  TenantConfig tenant;
  if (table.as_object() == nullptr) return fail(ErrorCode::invalid_argument, "each [[tenant]] must be a table");
  for (const auto& [key, value] : *table.as_object()) {
    const double number = value.as_double().value_or(-1);
    const bool limit = key == "requests_per_minute" || key == "tokens_per_minute" || key == "concurrent";
    if (limit && number < 0) return fail(ErrorCode::invalid_argument, "'{}' must be a number from 0 on", key);
    if (key == "requests_per_minute")
      tenant.requests_per_minute = number;
    else if (key == "tokens_per_minute")
      tenant.tokens_per_minute = number;
    else if (key == "concurrent")
      tenant.concurrent = static_cast<std::int64_t>(number);
    else if (key == "priority") {
      const std::string* word = value.as_string();
      const auto priority = word != nullptr ? parse_priority(*word) : std::nullopt;
      if (!priority) return fail(ErrorCode::invalid_argument, "'priority' must be high, normal or low");
      tenant.priority = *priority;
    } else if (key == "name" && value.as_string() != nullptr)
      tenant.name = *value.as_string();
    else if (key != "keys" && key != "key_sha256")
      return fail(ErrorCode::invalid_argument, "unknown key '{}' of a tenant", key);
  }
  HP_TRY(tenant.key_sha256, strings(table, "key_sha256"));
  HP_TRY(const auto keys, strings(table, "keys"));
  for (const std::string& key : keys) tenant.key_sha256.push_back(net::sha256_hex(key));
  for (std::string& hash : tenant.key_sha256) {
    std::ranges::transform(hash, hash.begin(), [](char c) { return c >= 'A' && c <= 'F' ? char(c + 32) : c; });
    if (hash.size() != 64 || hash.find_first_not_of("0123456789abcdef") != std::string::npos)
      return fail(ErrorCode::invalid_argument, "a key_sha256 of tenant '{}' is not 64 hex digits", tenant.name);
  }
  if (tenant.name.empty() || tenant.key_sha256.empty())
    return fail(ErrorCode::invalid_argument, "a tenant needs a name and at least one of keys and key_sha256");
  return tenant;
}

}  // namespace

Result<std::vector<TenantConfig>> parse_tenants(std::string_view toml, std::string_view source) {
  HP_TRY(const JsonValue file, parse_toml(toml, source));
  std::vector<TenantConfig> tenants;
  const JsonValue* list = file.find("tenant");
  if (list == nullptr || list->as_array() == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected [[tenant]] tables, found none", source);
  for (const JsonValue& table : *list->as_array()) {
    auto tenant = parse_tenant(table);
    if (!tenant) return fail(std::move(tenant).error().with_context(source));
    for (const TenantConfig& other : tenants)
      if (other.name == tenant->name)
        return fail(ErrorCode::invalid_argument, "{}: two tenants have the name '{}'", source, other.name);
    tenants.push_back(*std::move(tenant));
  }
  return tenants;
}

TenantConfig tenant_of_keys(std::string_view lines) {
  TenantConfig tenant{.name = "default", .key_sha256 = {}};
  while (!lines.empty()) {
    std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (!line.empty() && !line.starts_with('#')) tenant.key_sha256.push_back(net::sha256_hex(line));
  }
  return tenant;
}

void Admission::Bucket::refill(TimePoint now) {
  level = std::min(per_minute, level + per_minute * to_seconds(now - at) / 60);
  at = now;
}

std::int64_t Admission::Bucket::seconds_until(double need) const {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil((need - level) * 60 / per_minute)));
}

void Admission::configure(const std::vector<TenantConfig>& tenants) {
  const std::lock_guard lock(mutex_);
  by_key_.clear();
  std::erase_if(tenants_, [&](const auto& entry) {
    return entry.second->open == 0 &&
           std::ranges::none_of(tenants, [&](const TenantConfig& t) { return t.name == entry.first; });
  });
  for (const TenantConfig& config : tenants) {
    auto& tenant = tenants_[config.name];
    const bool fresh = !tenant;
    if (fresh) tenant = std::make_unique<Tenant>();
    tenant->config = config;
    set_rates_locked(*tenant);
    if (fresh) {
      tenant->requests.level = config.requests_per_minute;
      tenant->tokens.level = config.tokens_per_minute;
      tenant->requests.at = tenant->tokens.at = clock_.now();
    }
    for (const std::string& hash : config.key_sha256) by_key_[hash] = tenant.get();
  }
}

// The key is looked up by its hash: how long that takes says nothing about the key.
Admission::Tenant* Admission::find_locked(std::string_view authorization) {
  if (!authorization.starts_with(kBearer)) return nullptr;
  const auto found = by_key_.find(net::sha256_hex(authorization.substr(kBearer.size())));
  return found == by_key_.end() ? nullptr : found->second;
}

void Admission::set_inside(std::string authorization) {
  const std::lock_guard lock(mutex_);
  inside_sha256_ = net::sha256_hex(authorization);
}

bool Admission::is_inside_locked(std::string_view authorization) const {
  return authorization.starts_with(kInside) && net::sha256_hex(authorization) == inside_sha256_;
}

Admission::Verdict Admission::identify(std::string_view authorization) {
  const std::lock_guard lock(mutex_);
  if (is_inside_locked(authorization)) return {.tenant = std::string(kInsideTenant), .message = {}};
  if (by_key_.empty()) return {};
  const Tenant* tenant = find_locked(authorization);
  if (tenant == nullptr) return {.status = 401, .tenant = {}, .message = "The API key is missing or not known here."};
  return {.tenant = tenant->config.name, .message = {}};
}

Admission::Verdict Admission::refuse(const Tenant& tenant, std::string_view what, std::int64_t retry_after_s) {
  metrics_
      .counter("homeport_gateway_limited_total", "Requests refused by a tenant's limit",
               {{"tenant", tenant.config.name}})
      .add();
  return {.status = 429,
          .tenant = tenant.config.name,
          .message = fmt::format("The limit of {} is reached; try again in {} s.", what, retry_after_s),
          .retry_after_s = retry_after_s};
}

Admission::Verdict Admission::enter(std::string_view authorization, std::int64_t cost_tokens) {
  const std::lock_guard lock(mutex_);
  if (is_inside_locked(authorization)) return {.tenant = std::string(kInsideTenant), .message = {}};
  if (by_key_.empty()) return {};
  return enter_locked(find_locked(authorization), cost_tokens);
}

Admission::Verdict Admission::enter_as(std::string_view name, std::int64_t cost_tokens) {
  const std::lock_guard lock(mutex_);
  const auto found = tenants_.find(name);
  return enter_locked(found == tenants_.end() ? nullptr : found->second.get(), cost_tokens);
}

bool Admission::wants_keys() {
  const std::lock_guard lock(mutex_);
  return !by_key_.empty();
}

Admission::Verdict Admission::enter_locked(Tenant* tenant, std::int64_t cost_tokens) {
  if (tenant == nullptr) return {.status = 401, .tenant = {}, .message = "The API key is missing or not known here."};
  const TenantConfig& config = tenant->config;
  const TimePoint now = clock_.now();
  tenant->requests.refill(now);
  tenant->tokens.refill(now);
  const auto share = static_cast<std::int64_t>(split_);
  if (config.concurrent > 0 && (tenant->open + tenant->others_open >= config.concurrent ||
                                tenant->open >= std::max<std::int64_t>(1, config.concurrent / share)))
    return refuse(*tenant, "requests at once", 1);
  if (config.requests_per_minute > 0 && tenant->requests.level < 1)
    return refuse(*tenant, "requests per minute", tenant->requests.seconds_until(1));
  // A request larger than a minute's allowance passes on a full bucket: it could never pass otherwise.
  const double need = std::min(static_cast<double>(cost_tokens), tenant->tokens.per_minute);
  if (config.tokens_per_minute > 0 && tenant->tokens.level < need)
    return refuse(*tenant, "tokens per minute", tenant->tokens.seconds_until(need));
  tenant->requests.level -= 1;
  tenant->tokens.level -= static_cast<double>(cost_tokens);
  tenant->taken_requests += 1;
  tenant->taken_tokens += static_cast<double>(cost_tokens);
  ++tenant->open;
  return {.tenant = config.name, .message = {}, .priority = config.priority};
}

void Admission::leave(std::string_view name, std::int64_t cost_tokens, std::int64_t used_tokens) {
  const std::lock_guard lock(mutex_);
  const auto found = tenants_.find(name);
  if (found == tenants_.end()) return;
  if (found->second->open > 0) --found->second->open;
  spend_locked(*found->second, used_tokens - cost_tokens);
}

void Admission::spend(std::string_view name, std::int64_t tokens) {
  const std::lock_guard lock(mutex_);
  if (const auto found = tenants_.find(name); found != tenants_.end()) spend_locked(*found->second, tokens);
}

void Admission::spend_locked(Tenant& tenant, std::int64_t tokens) const {
  tenant.tokens.refill(clock_.now());
  tenant.taken_tokens += static_cast<double>(tokens);
  tenant.tokens.level = std::min(tenant.tokens.per_minute, tenant.tokens.level - static_cast<double>(tokens));
}

void Admission::set_rates_locked(Tenant& tenant) const {
  const auto share = static_cast<double>(split_);
  tenant.requests.per_minute = tenant.config.requests_per_minute / share;
  tenant.tokens.per_minute = tenant.config.tokens_per_minute / share;
}

std::vector<TenantShare> Admission::collect() {
  const std::lock_guard lock(mutex_);
  std::vector<TenantShare> shares;
  for (const auto& [name, tenant] : tenants_)
    if (tenant->limited())
      shares.push_back({.tenant = name,
                        .requests = std::exchange(tenant->taken_requests, 0),
                        .tokens = std::exchange(tenant->taken_tokens, 0),
                        .open = tenant->open});
  return shares;
}

void Admission::give_back(const std::vector<TenantShare>& shares) {
  const std::lock_guard lock(mutex_);
  for (const TenantShare& share : shares) {
    const auto found = tenants_.find(share.tenant);
    if (found == tenants_.end()) continue;
    found->second->taken_requests += share.requests;
    found->second->taken_tokens += share.tokens;
  }
}

void Admission::apply_others(const TenantShare& others) {
  const std::lock_guard lock(mutex_);
  const auto found = tenants_.find(others.tenant);
  if (found == tenants_.end()) return;
  Tenant& tenant = *found->second;
  const TimePoint now = clock_.now();
  tenant.requests.refill(now);
  tenant.tokens.refill(now);
  tenant.requests.level -= others.requests;
  tenant.tokens.level = std::min(tenant.tokens.per_minute, tenant.tokens.level - others.tokens);
  tenant.others_open = others.open;
}

void Admission::split(std::size_t gateways) {
  const std::lock_guard lock(mutex_);
  if (split_ == gateways) return;
  split_ = gateways;
  const TimePoint now = clock_.now();
  for (const auto& [name, tenant] : tenants_) {
    for (Bucket* bucket : {&tenant->requests, &tenant->tokens}) {
      bucket->refill(now);
      bucket->level -= bucket->per_minute;  // what was taken stays taken, whatever the share
    }
    set_rates_locked(*tenant);
    for (Bucket* bucket : {&tenant->requests, &tenant->tokens}) bucket->level += bucket->per_minute;
    tenant->others_open = 0;
  }
}

}  // namespace hp::gateway
