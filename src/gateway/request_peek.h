// What routing and resuming need to know of a request's body; the rest is the node's business and goes through
// untouched.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gateway/limits.h"

namespace hp::gateway {

/// Hashes of a prompt's first bytes, up to growing lengths: two prompts share a prefix of lengths[i] bytes when their
/// hashes[i] are equal.
struct PrefixHashes {
  std::array<std::uint64_t, kPrefixMaxBlocks> hashes{};
  std::array<std::uint32_t, kPrefixMaxBlocks> lengths{};
  std::size_t count = 0;
  void add_text(std::string_view text);
};

struct RequestPeek {
  std::string model, user, session, priority;
  std::int64_t deadline_ms = 0;  ///< 0: not given; -1: not a number from 1 on
  bool stream = false, include_usage = false;
  bool has_resume = false;            ///< the client sent "homeport_resume", which is between gateway and node only
  bool cold = false, seeded = false;  ///< temperature 0; a seed is given
  std::int64_t max_tokens = 0;        ///< 0: not given
  std::int64_t prompts = 1;
  std::int64_t choices = 1;  ///< n for every prompt
  std::size_t prompt_bytes = 0;
  std::size_t splice_at = 0;  ///< offset of the body's last '}'
  bool empty_object = false;  ///< no member before the splice: no comma either
  PrefixHashes prefix;

  /// Prompt and reply tokens this request may occupy, for counting load: a quarter of the prompt's bytes plus the
  /// limit.
  [[nodiscard]] std::int64_t cost_tokens() const;
  /// The same request has the same answer.
  [[nodiscard]] bool deterministic() const { return cold || seeded; }
};

/// May grow the body's capacity; leaves its text.
Result<RequestPeek> peek_request(std::string& body);

std::uint64_t hash_text(std::string_view text, std::uint64_t seed = 0);

}  // namespace hp::gateway
