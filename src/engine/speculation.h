// Speculation: tokens guessed ahead of a decode and verified in the same step, one row of logits each. Pure functions
// and plain state; the engine's step loop does the rest. The output is the same as without: a guess is taken only
// where sampling that row gives the very token, rows do not depend on what else is in a step (batch invariance), and
// the sampler's random numbers are counted by position.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"

namespace hp {

/// Prompt lookup: what followed the latest earlier occurrence of the sequence's last few tokens, at most `most` tokens;
/// empty when they never occurred. The longest match of kLookupLongest to kLookupShortest tokens wins.
std::vector<TokenId> propose_from_past(std::span<const TokenId> tokens, std::int32_t most);

/// How far to guess for one sequence: twice as far after a guess that held to its end, half as far after one that
/// failed at once, and not at all for a while after several of those.
class DraftPace {
 public:
  /// Tokens to guess in this step, at most `most`.
  std::int32_t next(std::int32_t most);
  void seen(std::int32_t proposed, std::int32_t accepted);

 private:
  std::int32_t length_ = 4, failures_ = 0, resting_ = 0;
};

/// Which of two sources to believe when prompt lookup and the model's prediction layer disagree: the one that has been
/// right more often of late. Both are judged by the first token, used or not.
class DraftSources {
 public:
  /// Both guesses of the next token, as far as there are any; says whether to follow the prediction layer.
  bool choose_predicted(std::optional<TokenId> lookup, std::optional<TokenId> predicted);
  void came(TokenId token);

 private:
  std::optional<TokenId> lookup_, predicted_;
  float lookup_score_ = 0.5F, predicted_score_ = 0.7F;
};

}  // namespace hp
