// Cuts a node's byte stream into server-sent events, and an event's data into what the client gets and what the gateway
// keeps (docs/journal.md). Works on views: an event that arrives whole is never copied.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace hp::gateway {

class EventCutter {
 public:
  struct Sink {
    std::function<bool(std::string_view data)> on_data;        ///< false: stop
    std::function<bool(std::string_view comment)> on_comment;  ///< text after the colon
  };
  /// An error when one event grows beyond kMaxEventBytes.
  Status push(std::string_view bytes, const Sink& sink);
  [[nodiscard]] bool between_events() const { return partial_.empty(); }

 private:
  std::string partial_;  // the unfinished event
};

/// What the journal says of one chunk.
struct JournalEntry {
  std::uint32_t choice = 0;
  std::uint64_t index = 0;
  std::vector<TokenId> tokens;
  std::optional<std::uint64_t> seed, prompt_tokens;
};

/// One chunk of a journalled stream, cut.
struct CutChunk {
  std::string_view body;  ///< the client's JSON without its last '}'
  std::optional<JournalEntry> entry;
  std::string_view finish_reason;  ///< empty: null or none
  bool empty = false;              ///< carries nothing for a client
  bool usage = false;              ///< the chunk without choices
  bool error = false;              ///< {"error": …}
};

/// `data` is one JSON object. A member "homeport" that is not as the protocol says is an error.
Result<CutChunk> cut_chunk(std::string_view data);

}  // namespace hp::gateway
