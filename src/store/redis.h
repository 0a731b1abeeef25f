// One Redis server as a store that may go away at any moment. A thread of its own does the talking; nobody waits for
// it: commands queue up, bounded, and each one's handler hears of its reply, or of the failure after the time limit.
// After the first failure the server counts as away and every command fails at once until a probe finds it back.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "store/limits.h"

namespace hp::store {

struct RedisOptions {
  std::string address;        ///< host:port or unix:/path
  std::string password = {};  ///< empty: none
  milliseconds timeout{50};   ///< a command has ended after so long, one way or the other
};

struct Reply {
  enum class Kind { nil, integer, text, list };
  Kind kind = Kind::nil;
  std::int64_t integer = 0;
  std::string text;
  std::vector<Reply> list;
};

/// Runs on the store's thread, or inside send() when the command fails at once: short, and never blocking.
using ReplyHandler = std::function<void(Result<Reply>)>;

class Redis {
 public:
  /// An error when the address is none. Whether a server is there shows later; the log has one line for every change.
  static Result<std::unique_ptr<Redis>> create(RedisOptions options, MetricsRegistry& metrics);
  virtual ~Redis() = default;

  /// False: every command would fail at once.
  [[nodiscard]] virtual bool available() const = 0;
  /// It answers, but its last kLateRun exchanges took longer than kLate each: what can be done without is not asked.
  [[nodiscard]] virtual bool late() const = 0;
  virtual void send(std::vector<std::string> command, ReplyHandler on_reply = {}) = 0;
  /// The last commands get their chance, then every handler has been called and none will be any more.
  virtual void stop() = 0;
};

}  // namespace hp::store
