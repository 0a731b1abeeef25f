// Who may use the console: keys, signed sessions, CSRF tokens, and a brake on guessing. Sessions are signed, not
// stored, so that they outlive a restart and hold at every gateway with the same keys; changing the keys ends them all.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp::ops {

struct ConsoleKey {
  std::string name;     ///< shown in the audit: letters, digits, '-' and '_'
  bool may_act = true;  ///< false: sees everything, changes nothing
  std::string sha256;   ///< of the key, lower-case hex
};

/// A line each: "KEY", "NAME KEY" or "NAME viewer|admin KEY"; '#' starts a comment. KEY may be "sha256:<hex>".
Result<std::vector<ConsoleKey>> parse_console_keys(std::string_view text, std::string_view source);

struct Session {
  std::string name;
  bool may_act = false;
  std::int64_t ends_ms = 0;
  std::string csrf;   ///< every POST must carry it
  std::string value;  ///< of the cookie
};

class ConsoleAuth {
 public:
  /// `secret` signs, together with the keys: random, the same at every gateway that shall take the same sessions.
  ConsoleAuth(std::vector<ConsoleKey> keys, std::string_view secret);

  /// The session of a request's Cookie header, if it is ours, not ended and not logged out.
  [[nodiscard]] std::optional<Session> session_of(std::string_view cookies, std::int64_t now_ms) const;

  enum class Refusal { wrong_key, too_many };
  /// `address` is the peer's, without its port.
  tl::expected<Session, Refusal> login(std::string_view key, std::string_view address, std::int64_t now_ms);
  void logout(const Session& session);
  /// What a login form has to send back, good for the quarter of an hour around `now_ms`.
  [[nodiscard]] std::string login_token(std::int64_t now_ms) const;
  [[nodiscard]] bool login_token_ok(std::string_view token, std::int64_t now_ms) const;

  static constexpr std::string_view kCookie = "homeport_console";

 private:
  [[nodiscard]] std::string sign(std::string_view purpose, std::string_view text) const;
  bool brake(std::string_view address, std::int64_t now_ms);

  std::vector<ConsoleKey> keys_;
  std::string secret_;
  mutable std::mutex mutex_;                                  // what follows
  std::map<std::string, std::int64_t, std::less<>> revoked_;  // nonce, and when its session would have ended
  std::map<std::string, int, std::less<>> failures_;          // by address, of this minute
  int failures_in_all_ = 0;
  std::int64_t failures_minute_ = 0;
};

/// Compares in a time that does not depend on where they differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace hp::ops
