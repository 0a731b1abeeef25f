#include "engine/sequence.h"

#include <algorithm>

namespace hp {

std::optional<FinishReason> finish_of(const Sequence& sequence, std::int32_t context) {
  const EngineRequest& r = *sequence.request;
  const auto generated = sequence.generated();
  const auto count = static_cast<std::int32_t>(generated.size());
  if (count > r.min_tokens && std::ranges::find(r.stop_tokens, generated.back()) != r.stop_tokens.end())
    return FinishReason::stop;
  if (count >= r.max_tokens || sequence.size() >= context) return FinishReason::length;
  return std::nullopt;
}

}  // namespace hp
