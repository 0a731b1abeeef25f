// The seam between engine and model: one step takes new tokens of many sequences and gives logits. Tokens in, logits
// out; no text, no requests, no policy. Implementations: arch/cpu (this room), the CUDA plug-in, sim's fake.
//
// Contract (batch invariance): a sequence's logits are the same bits whatever else is in the batch, however its tokens
// were chunked over steps, and whether they were prefilled or decoded one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "model/engine_memory.h"

namespace hp {

/// How a sequence's next token is drawn where these figures are all that matters (engine/sampler.h has the arithmetic).
struct TokenDraw {
  float temperature = 0.0F, top_p = 1.0F, min_p = 0.0F;
  std::uint32_t choice = 0;
  std::uint64_t seed = 0, position = 0;  ///< of the token that the first of the rows gives
};

/// One sequence's share of a step. KV of positions before `position` has been written by earlier steps into `blocks`.
struct SequenceStep {
  std::span<const TokenId> tokens;     ///< new tokens, at least one
  std::int32_t position = 0;           ///< of tokens[0]
  std::span<const BlockId> blocks;     ///< covers positions [0, position + tokens.size())
  std::int32_t logit_rows = 0;         ///< logits are wanted for the last n tokens: 0 in a middle chunk, 1 to decode
  bool best_suffices = false;          ///< nobody looks at the logits but for the largest
  std::optional<TokenDraw> draw = {};  ///< nobody looks at the logits but to draw a token so
};

inline constexpr TokenId kUndecided = -2;

/// Logits of a step: [rows, vocab] in the order of the sequences. Valid until the next step.
struct StepLogits {
  std::span<const float> values;
  std::int32_t rows = 0, vocab = 0;
  /// Where every sequence said best_suffices or draw and the device does it: [rows] the token with the largest logit,
  /// the lowest id on ties, or the drawn one; -1 when no logit is a number. kUndecided: values are there for this row.
  std::span<const TokenId> best = {};
  [[nodiscard]] std::span<const float> row(std::int32_t i) const {
    return values.subspan(static_cast<std::size_t>(i) * static_cast<std::size_t>(vocab),
                          static_cast<std::size_t>(vocab));
  }
};

/// What one sequence of the last step asks the prediction layer: the tokens that follow the step's rows, as far as they
/// have turned out right. `follow.tokens[i]` is the token at follow.position + i + 1; follow.position and follow.blocks
/// are the step's own. logit_rows 1: a guess is wanted; 0: only the layer's cache is brought up to date.
struct DraftRequest {
  std::int32_t sequence = 0;  ///< index in the last step's batch
  SequenceStep follow;
};

struct ExecutorInfo {
  std::string device;   ///< "cpu avx512, 2 threads"
  std::string weights;  ///< fingerprint of the weights and of the KV type
  std::int32_t vocab = 0;
  std::int32_t context = 0;        ///< most positions of one sequence
  std::int32_t block_tokens = 16;  ///< tokens per KV block
  std::int32_t blocks = 0;         ///< KV blocks in all
  std::size_t block_bytes = 0;     ///< bytes of one KV block over all layers
  std::int32_t max_step_tokens = 0;
  std::int32_t max_logit_rows = 0;
  EngineMemory memory;    ///< allocated, counted by who allocated it; zeros where an executor does not say
  bool predicts = false;  ///< draft() guesses: the model's next-token-prediction layer is loaded
};

class Executor {
 public:
  virtual ~Executor() = default;
  [[nodiscard]] virtual const ExecutorInfo& info() const = 0;
  /// Not reentrant; called from the engine's thread only. An error means that the device is lost: the node ends.
  virtual Result<StepLogits> step(std::span<const SequenceStep> batch) = 0;
  /// After a step, once per step, its logits no longer needed: per request the guessed token after the last of
  /// `follow.tokens`, or -1 where none was wanted. Guesses only: no output may depend on their being right.
  virtual std::vector<TokenId> draft(std::span<const DraftRequest> requests) {
    return std::vector<TokenId>(requests.size(), -1);
  }
};

}  // namespace hp
