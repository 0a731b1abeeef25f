#include "engine/validate_request.h"

#include <algorithm>
#include <cstdint>

#include "engine/limits.h"

namespace hp {

Status validate_request(const EngineRequest& r, const ExecutorInfo& info) {
  const auto prompt = static_cast<std::int64_t>(r.prompt.size());
  const auto bad_token = [&](TokenId t) { return t < 0 || t >= info.vocab; };
  if (prompt == 0) return fail(ErrorCode::invalid_argument, "expected a prompt of 1 or more tokens, found none");
  if (prompt >= info.context)
    return fail(ErrorCode::invalid_argument, "the prompt has {} tokens; the context is {}: shorten it", prompt,
                info.context);
  if (r.choices < 1 || r.choices > kMaxChoices)
    return fail(ErrorCode::invalid_argument, "expected 1 to {} choices, found {}", kMaxChoices, r.choices);
  if (r.max_tokens < 1)
    return fail(ErrorCode::invalid_argument, "expected max_tokens of 1 or more, found {}", r.max_tokens);
  if (r.stop_tokens.size() > kMaxStopTokens || r.sampling.logit_bias.size() > kMaxLogitBias)
    return fail(ErrorCode::invalid_argument, "at most {} stop tokens and {} logit biases, found {} and {}",
                kMaxStopTokens, kMaxLogitBias, r.stop_tokens.size(), r.sampling.logit_bias.size());
  const auto choices = static_cast<std::size_t>(r.choices);
  if ((!r.generated.empty() && r.generated.size() != choices) ||
      (!r.constraints.empty() && r.constraints.size() != choices))
    return fail(ErrorCode::invalid_argument,
                "expected generated tokens and constraints for {} choices, found {} and {}", choices,
                r.generated.size(), r.constraints.size());
  if (std::ranges::any_of(r.prompt, bad_token))
    return fail(ErrorCode::invalid_argument, "a prompt token is outside the vocabulary of {}", info.vocab);
  for (const auto& g : r.generated) {
    if (std::ranges::any_of(g, bad_token))
      return fail(ErrorCode::invalid_argument, "a generated token is outside the vocabulary of {}", info.vocab);
    if (static_cast<std::int64_t>(g.size()) > std::min<std::int64_t>(r.max_tokens, info.context - prompt))
      return fail(ErrorCode::invalid_argument, "{} tokens to resume from, with max_tokens {}", g.size(), r.max_tokens);
  }
  const std::int64_t most = std::min<std::int64_t>(prompt + r.max_tokens, info.context);
  const std::int64_t blocks = (most + info.block_tokens - 1) / info.block_tokens;
  if (blocks > info.blocks)
    return fail(ErrorCode::resource_exhausted, "{} tokens need {} KV blocks; the node has {}: lower max_tokens", most,
                blocks, info.blocks);
  return {};
}

}  // namespace hp
