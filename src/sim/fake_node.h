// A node without a model, over real HTTP: speaks the journal protocol (docs/journal.md), and its tokens are a pure hash
// of (prompt, seed, choice, position), so that a lost, doubled or reordered token shows. Faults on demand. Checks what
// the gateway sends it: a resume with wrong tokens is refused. Never linked into the product.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/metrics.h"
#include "base/result.h"

namespace hp {

struct FakeNodeOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;
  std::string model = "fake";
  std::string identity = "fp_fake";                ///< of its weights, as /v1/models tells
  std::chrono::microseconds token_pace{20'000};    ///< between two tokens of one stream
  std::chrono::microseconds prefill_per_token{0};  ///< of the prompt that is not cached
  std::size_t cached_blocks = 4096;                ///< of kFakeBlockBytes prompt bytes, least recently used goes
  std::size_t max_streams = 100'000;               ///< beyond: 429
  std::chrono::milliseconds heartbeat{100};        ///< of journalled streams that wait for a token; 0: none
  bool journal = true;                             ///< false: a foreign OpenAI-compatible server
};

inline constexpr std::size_t kFakeBlockBytes = 256;
inline constexpr std::int64_t kFakeDefaultTokens = 32;

struct FakeNodeStats {
  std::uint64_t requests = 0, resumes = 0, refused = 0, tokens = 0, prompt_blocks = 0, cached_blocks = 0, cancelled = 0;
  std::size_t open = 0, peak = 0;
};

class FakeNode {
 public:
  static Result<std::unique_ptr<FakeNode>> start(const FakeNodeOptions& options, MetricsRegistry& metrics);
  virtual ~FakeNode() = default;
  [[nodiscard]] virtual std::uint16_t port() const = 0;
  [[nodiscard]] virtual FakeNodeStats stats() = 0;
  /// The same as POST /fault: {"kind": "stall" | "cut" | "error" | "busy" | "unavailable" | "bad" | "slow" | "drain" |
  /// "none", "ms": how long, "factor": of slow}. `cut` breaks the open streams off, the others last for the time.
  virtual void fault(std::string_view kind, std::chrono::milliseconds duration, double factor = 10) = 0;
};

/// The token that any correct node generates.
TokenId fake_token(std::string_view prompt, std::uint64_t seed, std::uint32_t choice, std::uint64_t position);
/// The whole text of a choice with at most `max_tokens`, and why it ends.
struct FakeReply {
  std::string text;
  std::uint64_t tokens = 0;
  std::string_view finish_reason;
};
FakeReply fake_reply(std::string_view prompt, std::uint64_t seed, std::uint32_t choice, std::int64_t max_tokens);

}  // namespace hp
