// One token timeline in the engine: a choice of a request, its tokens, its KV blocks and how far they are computed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/speculation.h"

namespace hp {

struct Sequence {
  std::shared_ptr<const EngineRequest> request;  ///< shared by its choices; constraints have moved out
  std::int32_t choice = 0;
  Rank rank;
  std::vector<TokenId> tokens;     ///< prompt and generated
  std::vector<BlockId> blocks;     ///< covers at least [0, computed)
  std::int32_t computed = 0;       ///< positions with KV written
  std::int32_t indexed = 0;        ///< leading blocks that are in the prefix cache
  bool indexable = true;           ///< false once a block could not be indexed: those after it cannot be either
  std::int32_t cached_prompt = 0;  ///< prompt tokens found in the prefix cache when it was first admitted
  bool admitted_before = false;
  Duration queued{};           ///< from submit to the first admission
  std::int32_t passed_by = 0;  ///< sequences of worse rank that were let in while this one did not fit
  bool reported = false;       ///< an event with a token went out
  std::unique_ptr<Constraint> constraint;
  DraftPace pace;
  DraftSources sources;
  bool follows_prediction = false;   ///< this step's guess is the prediction layer's
  std::optional<TokenId> predicted;  ///< the prediction layer's guess of the next token

  [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(tokens.size()); }
  [[nodiscard]] std::span<const TokenId> generated() const {
    return std::span<const TokenId>(tokens).subspan(request->prompt.size());
  }
};

/// Whether the tokens known so far end the sequence, and why.
std::optional<FinishReason> finish_of(const Sequence& sequence, std::int32_t context);

}  // namespace hp
