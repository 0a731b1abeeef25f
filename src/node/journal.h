// The journal protocol between a gateway and a node (docs/journal.md): what the gateway's headers and resume member
// say, and the member that a node adds to every chunk. Reads and writes bytes only; what a resume does is the
// session's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "net/http.h"

namespace hp {

struct JournalHeaders {
  bool chunks = false;  ///< Homeport-Journal: 1
  std::string stream;   ///< Homeport-Stream: the answer's id suffix; empty: the node makes one
  std::optional<std::int64_t> created;
  std::optional<std::uint64_t> seed;
};

/// An error names the header.
Result<JournalHeaders> read_journal_headers(const net::HttpRequest& request);

/// A choice whose beginning, role chunk included, the client has.
struct ResumedChoice {
  std::int32_t index = 0;
  std::vector<TokenId> tokens;
  bool finished = false;  ///< only counted for usage
};

/// The member "homeport_resume" of a body; empty when there is none.
Result<std::vector<ResumedChoice>> read_resume(std::string_view body);

/// What stands behind one chunk. `first`: the answer's first chunk also tells seed and prompt length.
struct JournalEntry {
  std::int32_t choice = 0, index = 0;
  std::span<const TokenId> tokens = {};
  bool first = false;
  std::uint64_t seed = 0;
  std::int64_t prompt_tokens = 0;
};

/// Adds `,"homeport":{…}` as the last member of the object `chunk`, without a space: the gateway cuts it off unparsed.
void append_journal(std::string& chunk, const JournalEntry& entry);

}  // namespace hp
