#include "ops/console/console_auth.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/check.h"
#include "net/sha256.h"
#include "net/signing.h"
#include "ops/console/console_limits.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kLoginTokenMs = 15 * 60'000;

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool good_name(std::string_view name) {
  return !name.empty() && name.size() <= 32 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  line = line.substr(0, line.find('#'));
  while (true) {
    const auto from = line.find_first_not_of(" \t\r");
    if (from == std::string_view::npos) return words;
    const auto end = line.find_first_of(" \t\r", from);
    words.push_back(line.substr(from, end - from));
    if (end == std::string_view::npos) return words;
    line.remove_prefix(end);
  }
}

std::string random_hex() {
  std::array<std::uint64_t, 2> words{};
  HP_CHECK(::getrandom(words.data(), sizeof words, 0) == static_cast<ssize_t>(sizeof words), "no random bytes");
  return fmt::format("{:016x}{:016x}", words[0], words[1]);
}

/// The value of one cookie in a Cookie header.
std::string_view cookie_value(std::string_view header, std::string_view name) {
  while (!header.empty()) {
    const auto end = std::min(header.find(';'), header.size());
    std::string_view pair = header.substr(0, end);
    header.remove_prefix(std::min(end + 1, header.size()));
    pair.remove_prefix(std::min(pair.find_first_not_of(' '), pair.size()));
    if (pair.starts_with(name) && pair.substr(name.size()).starts_with('=')) return pair.substr(name.size() + 1);
  }
  return {};
}

}  // namespace

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference = static_cast<unsigned char>(difference | (static_cast<unsigned char>(a[i] ^ b[i])));
  return difference == 0;
}

Result<std::vector<ConsoleKey>> parse_console_keys(std::string_view text, std::string_view source) {
  std::vector<ConsoleKey> keys;
  int number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto words = words_of(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (words.empty()) continue;
    ConsoleKey key{.name = words.size() > 1 ? std::string(words.front()) : fmt::format("key{}", keys.size() + 1)};
    const bool role_ok = words.size() < 3 || words[1] == "viewer" || words[1] == "admin";
    if (words.size() > 3 || !role_ok || !good_name(key.name))
      return fail(
          ErrorCode::invalid_argument,
          "{}: line {}: expected 'KEY', 'NAME KEY' or 'NAME viewer|admin KEY', the name of letters, digits, '-' "
          "and '_'",
          source, number);
    key.may_act = words.size() < 3 || words[1] == "admin";
    const std::string_view secret = words.back();
    if (secret.starts_with("sha256:")) {
      key.sha256 = secret.substr(7);
      if (!is_hex(key.sha256, 64))
        return fail(ErrorCode::invalid_argument, "{}: line {}: sha256: takes 64 lower-case hex digits", source, number);
    } else if (secret.size() < 12) {
      return fail(ErrorCode::invalid_argument, "{}: line {}: a console key needs 12 characters or more", source,
                  number);
    } else {
      key.sha256 = net::sha256_hex(secret);
    }
    keys.push_back(std::move(key));
    if (keys.size() > limits::kMaxConsoleKeys)
      return fail(ErrorCode::invalid_argument, "{}: more than {} keys", source, limits::kMaxConsoleKeys);
  }
  return keys;
}

ConsoleAuth::ConsoleAuth(std::vector<ConsoleKey> keys, std::string_view secret) : keys_(std::move(keys)) {
  std::string all = fmt::format("homeport console\n{}", secret);
  for (const ConsoleKey& key : keys_) all += "\n" + key.name + (key.may_act ? " admin " : " viewer ") + key.sha256;
  secret_ = net::sha256_hex(all);
}

std::string ConsoleAuth::sign(std::string_view purpose, std::string_view text) const {
  return net::hex(net::hmac_sha256(secret_, fmt::format("{}\n{}", purpose, text)));
}

// name.role.end.nonce.mac
std::optional<Session> ConsoleAuth::session_of(std::string_view cookies, std::int64_t now_ms) const {
  const std::string_view value = cookie_value(cookies, kCookie);
  if (value.empty() || value.size() > 256) return std::nullopt;
  const auto dot = value.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view signed_part = value.substr(0, dot);
  if (!equal_in_constant_time(sign("session", signed_part), value.substr(dot + 1))) return std::nullopt;
  std::array<std::string_view, 4> parts;
  std::string_view rest = signed_part;
  for (auto& part : parts) {
    part = rest.substr(0, rest.find('.'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
  }
  Session session{.name = std::string(parts[0]), .may_act = parts[1] == "admin", .value = std::string(value)};
  std::from_chars(parts[2].data(), parts[2].data() + parts[2].size(), session.ends_ms);
  if (session.ends_ms <= now_ms) return std::nullopt;
  {
    const std::lock_guard lock(mutex_);
    if (revoked_.contains(parts[3])) return std::nullopt;
  }
  session.csrf = sign("csrf", value);
  return session;
}

bool ConsoleAuth::brake(std::string_view address, std::int64_t now_ms) {
  if (std::exchange(failures_minute_, now_ms / 60'000) != now_ms / 60'000) {
    failures_.clear();
    failures_in_all_ = 0;
  }
  const auto found = failures_.find(address);
  return failures_in_all_ >= limits::kLoginsPerMinuteInAll ||
         (found != failures_.end() && found->second >= limits::kLoginsPerMinute) ||
         failures_.size() >= limits::kMaxLoginAddresses;
}

tl::expected<Session, ConsoleAuth::Refusal> ConsoleAuth::login(std::string_view key, std::string_view address,
                                                               std::int64_t now_ms) {
  const std::lock_guard lock(mutex_);
  if (brake(address, now_ms)) return tl::unexpected(Refusal::too_many);
  const std::string hash = net::sha256_hex(key);
  const ConsoleKey* found = nullptr;
  for (const ConsoleKey& candidate : keys_)  // all of them, always
    if (equal_in_constant_time(candidate.sha256, hash)) found = &candidate;
  if (found == nullptr) {
    ++failures_[std::string(address)];
    ++failures_in_all_;
    return tl::unexpected(Refusal::wrong_key);
  }
  Session session{.name = found->name, .may_act = found->may_act};
  session.ends_ms = now_ms + std::chrono::milliseconds(limits::kSessionLife).count();
  session.value =
      fmt::format("{}.{}.{}.{}", session.name, session.may_act ? "admin" : "viewer", session.ends_ms, random_hex());
  session.value += "." + sign("session", session.value);
  session.csrf = sign("csrf", session.value);
  return session;
}

void ConsoleAuth::logout(const Session& session) {
  const std::string_view value = session.value;
  const auto mac = value.rfind('.');
  const auto nonce = value.rfind('.', mac - 1);
  const std::lock_guard lock(mutex_);
  if (revoked_.size() >= limits::kMaxRevokedSessions)
    revoked_.erase(std::ranges::min_element(revoked_, {}, [](const auto& entry) { return entry.second; }));
  revoked_.emplace(value.substr(nonce + 1, mac - nonce - 1), session.ends_ms);
}

std::string ConsoleAuth::login_token(std::int64_t now_ms) const {
  return sign("login", std::to_string(now_ms / kLoginTokenMs));
}

bool ConsoleAuth::login_token_ok(std::string_view token, std::int64_t now_ms) const {
  return equal_in_constant_time(token, login_token(now_ms)) ||
         equal_in_constant_time(token, login_token(now_ms - kLoginTokenMs));
}

}  // namespace hp::ops
