// The console: pages for people at /console, what they show and what may be done there. Owns sessions, the history and
// the streams to browsers, on a loop of its own, so that no look at the console delays a token. What the figures are
// and what an action does is the source's business.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "net/http.h"
#include "ops/console/console_auth.h"
#include "ops/history/history.h"

namespace hp::ops {

/// A part of the overview, sent to browsers when it differs from before: one JSON value, or items by id, so that one
/// node's change does not send two hundred.
struct ConsoleSection {
  std::string name;
  std::string json;                                             ///< without items
  std::vector<std::pair<std::string, std::string>> items = {};  ///< id and JSON
};

/// A POST of a person: the last word of its path, its body, and who.
struct ConsoleOrder {
  std::string what;  ///< "actions", "acknowledge", "note", "notices"
  JsonValue body;
  std::string who;
};

/// What the console shows and does. Every function may be empty. JSON in and out: docs/console.md describes it.
struct ConsoleSource {
  // On the console's loop, quick.
  std::function<std::vector<ConsoleSection>()> overview;
  std::function<void(History&)> record;  ///< the figures of now, once a second
  // On a thread of its own, may take seconds.
  std::function<Result<std::string>(std::string_view what, std::int64_t before_ms, std::size_t limit)> list;
  std::function<Result<std::string>(const ConsoleOrder&)> order;
  std::function<Result<std::string>(std::string_view stream)> journey;
};

struct ConsoleOptions {
  std::vector<ConsoleKey> keys;
  std::string secret;                  ///< signs sessions
  std::filesystem::path history_file;  ///< empty: in memory only
  std::string version;
};

/// Answers a request as if a client had sent it to the API.
using ConsoleForward = std::function<void(net::HttpRequest, std::shared_ptr<net::ResponseWriter>)>;

class Console {
 public:
  static std::unique_ptr<Console> start(ConsoleOptions options, ConsoleSource source);
  virtual ~Console() = default;

  /// True when the request was the console's; it is answered then, perhaps later.
  /// `forward` is called within this call, for chats; empty: there is no chat.
  virtual bool handle(net::HttpRequest& request, std::shared_ptr<net::ResponseWriter>& writer,
                      const ConsoleForward& forward) = 0;
  /// Runs on the console's loop with the history; returns when done.
  virtual void with_history(const std::function<void(const History&)>& look) = 0;
};

}  // namespace hp::ops
