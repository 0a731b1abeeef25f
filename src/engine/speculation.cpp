#include "engine/speculation.h"

#include <algorithm>

#include "engine/limits.h"

namespace hp {

std::vector<TokenId> propose_from_past(std::span<const TokenId> tokens, std::int32_t most) {
  if (most <= 0) return {};
  const std::size_t window = std::min(tokens.size(), kLookupWindow);
  const std::span<const TokenId> past = tokens.last(window);
  for (std::size_t length = std::min(kLookupLongest, window > 0 ? window - 1 : 0); length >= kLookupShortest;
       --length) {
    const std::span<const TokenId> ending = past.last(length);
    // Latest first; the occurrence must end before the sequence does.
    for (std::size_t end = window - 1; end >= length; --end) {
      if (!std::ranges::equal(past.subspan(end - length, length), ending)) continue;
      const std::size_t count = std::min(static_cast<std::size_t>(most), window - end);
      const std::span<const TokenId> followed = past.subspan(end, count);
      return {followed.begin(), followed.end()};
    }
  }
  return {};
}

std::int32_t DraftPace::next(std::int32_t most) {
  if (resting_ > 0) {
    --resting_;
    return 0;
  }
  return std::min(length_, most);
}

bool DraftSources::choose_predicted(std::optional<TokenId> lookup, std::optional<TokenId> predicted) {
  lookup_ = lookup;
  predicted_ = predicted;
  if (!predicted || lookup == predicted) return false;  // where they agree, prompt lookup knows more tokens
  return lookup ? predicted_score_ >= lookup_score_ : predicted_score_ >= kWorthGuessing;
}

void DraftSources::came(TokenId token) {
  constexpr float kMemory = 0.9F;
  const auto judge = [token](float score, std::optional<TokenId> guess) {
    return guess ? kMemory * score + (1.0F - kMemory) * (*guess == token ? 1.0F : 0.0F) : score;
  };
  lookup_score_ = judge(lookup_score_, lookup_);
  predicted_score_ = judge(predicted_score_, predicted_);
  lookup_ = predicted_ = std::nullopt;
}

void DraftPace::seen(std::int32_t proposed, std::int32_t accepted) {
  if (proposed == 0) return;
  if (accepted == proposed) length_ = std::min(length_ * 2, kMaxDraftTokens);
  failures_ = accepted == 0 ? failures_ + 1 : 0;
  if (accepted == 0) length_ = std::max(length_ / 2, 1);
  if (failures_ >= kDraftFailures) {
    failures_ = 0;
    resting_ = kDraftRest;
  }
}

}  // namespace hp
