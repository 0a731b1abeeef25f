// What the engine is asked for and what it answers. Tokens are its only language: no text, JSON or sockets.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"

namespace hp {

struct SamplingParams {
  float temperature = 1.0F;  ///< 0: greedy
  std::int32_t top_k = 0;    ///< 0: off
  float top_p = 1.0F, min_p = 0.0F;
  float repetition_penalty = 1.0F, frequency_penalty = 0.0F, presence_penalty = 0.0F;
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::uint64_t seed = 0;         ///< always concrete: the node draws one when the client gave none, and reports it
  std::int32_t top_logprobs = 0;  ///< how many alternatives to report per token
  bool logprobs = false;          ///< report the chosen token's log probability
};

/// Limits what may be sampled (grammar, JSON schema). One per choice; rebuilt by replaying tokens on resume.
class Constraint {
 public:
  virtual ~Constraint() = default;
  /// Clears the bit of every token that may not come next; bit t of word t / 64. `mask` starts all ones.
  virtual void allowed(std::span<std::uint64_t> mask) = 0;
  virtual void accept(TokenId token) = 0;
};

enum class FinishReason : std::uint8_t { stop, length, cancelled, deadline, error };

struct EngineRequest {
  RequestId id;
  std::vector<TokenId> prompt;
  std::int32_t choices = 1;          ///< n: independent samples of the same prompt, choice index in the random counter
  std::int32_t max_tokens = 0;       ///< per choice, generated tokens counted from the first, resumed ones included
  std::int32_t min_tokens = 0;       ///< stop tokens are masked before
  std::vector<TokenId> stop_tokens;  ///< end of generation; empty for ignore_eos
  SamplingParams sampling;
  std::int32_t priority = 0;  ///< lower runs first
  std::optional<TimePoint> deadline;
  /// Resume: tokens that each choice has generated elsewhere; [choices] or empty. They are replayed, not reported
  /// again.
  std::vector<std::vector<TokenId>> generated;
  std::vector<std::unique_ptr<Constraint>> constraints;  ///< [choices] or empty
  TimePoint submitted{};                                 ///< set by Engine::submit
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0F;
};

/// One generated token of one choice, or its end, or both.
struct TokenEvent {
  RequestId request;
  std::int32_t choice = 0;
  std::int32_t index = 0;        ///< of this token among the choice's generated tokens
  std::optional<TokenId> token;  ///< a stop token is reported too
  float logprob = 0.0F;          ///< of the model's own distribution (before temperature), when asked for
  std::vector<TokenLogprob> top;
  std::optional<FinishReason> finish;
  std::int32_t cached_prompt_tokens = 0;  ///< set with the first token: prompt tokens served from the prefix cache
  Duration queued{};                      ///< set with the first token: how long the choice waited for its first step
};

/// Receives the events of one step, on the engine's thread; must not block.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_step(std::vector<TokenEvent> events) = 0;
};

}  // namespace hp
