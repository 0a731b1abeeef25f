#include "sim/fake_executor.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/hash.h"
#include "engine/sampler.h"

namespace hp {

FakeExecutor::FakeExecutor(FakeExecutorOptions options)
    : options_(std::move(options)),
      kv_(static_cast<std::size_t>(options_.blocks) * static_cast<std::size_t>(options_.block_tokens), -1) {
  info_ = {.device = "fake",
           .weights = "fake",
           .vocab = options_.vocab,
           .context = options_.context,
           .block_tokens = options_.block_tokens,
           .blocks = options_.blocks,
           .block_bytes = static_cast<std::size_t>(options_.block_tokens) * sizeof(TokenId),
           .max_step_tokens = options_.max_step_tokens,
           .max_logit_rows = options_.max_logit_rows};
}

std::vector<float> FakeExecutor::logits_after(std::span<const TokenId> tokens, std::int32_t vocab) {
  const Hash128 h = hash128(std::as_bytes(tokens));
  std::vector<float> out;
  for (std::int32_t t = 0; t < vocab; ++t) {
    std::uint64_t x = h.low + static_cast<std::uint64_t>(t) * 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    out.push_back(static_cast<float>((x ^ (x >> 31)) >> 40) * 0x1p-21F - 4.0F);
  }
  return out;
}

std::size_t FakeExecutor::slot(const SequenceStep& s, std::int32_t position) const {
  const auto block = s.blocks[static_cast<std::size_t>(position / options_.block_tokens)];
  return static_cast<std::size_t>(block.value * options_.block_tokens + position % options_.block_tokens);
}

Status FakeExecutor::write(const SequenceStep& s) {
  const auto end = s.position + static_cast<std::int32_t>(s.tokens.size());
  if (s.tokens.empty() || end > options_.context ||
      static_cast<std::int32_t>(s.blocks.size()) * options_.block_tokens < end)
    return fail(ErrorCode::internal, "expected 1 or more tokens and blocks up to position {}, found {} and {}", end,
                s.tokens.size(), s.blocks.size());
  for (std::size_t i = 0; i < s.tokens.size(); ++i)
    kv_[slot(s, s.position + static_cast<std::int32_t>(i))] = s.tokens[i];
  return {};
}

std::vector<float> FakeExecutor::logits_for(std::span<const TokenId> tokens) const {
  if (options_.script.empty()) return logits_after(tokens, options_.vocab);
  const auto found = std::ranges::find_end(tokens, options_.script_after);
  std::vector<float> out(static_cast<std::size_t>(options_.vocab), 0.0F);
  const auto said = static_cast<std::size_t>(tokens.end() - found.end());
  if (!found.empty() && said < options_.script.size()) out[static_cast<std::size_t>(options_.script[said])] = 50.0F;
  return out;
}

Result<StepLogits> FakeExecutor::step(std::span<const SequenceStep> batch) {
  if (options_.latency) std::this_thread::sleep_for(options_.latency(batch));
  if (options_.fail_from_step >= 0 && steps_ >= options_.fail_from_step)
    return fail(ErrorCode::unavailable, "fake device lost at step {}", steps_);
  ++steps_;
  std::int32_t rows = 0;
  std::size_t tokens = 0;
  for (const SequenceStep& s : batch) {
    HP_TRY_VOID(write(s));
    rows += s.logit_rows;
    tokens += s.tokens.size();
  }
  if (rows > options_.max_logit_rows || tokens > static_cast<std::size_t>(options_.max_step_tokens))
    return fail(ErrorCode::internal, "a step of {} tokens and {} rows is over the limits", tokens, rows);
  logits_.clear();
  for (const SequenceStep& s : batch) {
    const auto end = s.position + static_cast<std::int32_t>(s.tokens.size());
    for (std::int32_t p = end - s.logit_rows; p < end; ++p) {
      std::vector<TokenId> seen;
      for (std::int32_t i = 0; i <= p; ++i) seen.push_back(kv_[slot(s, i)]);
      const auto row = logits_for(seen);
      logits_.insert(logits_.end(), row.begin(), row.end());
    }
  }
  const auto on_device = [](const SequenceStep& s) { return s.best_suffices || s.draw || s.logit_rows == 0; };
  StepLogits out{.values = logits_, .rows = rows, .vocab = options_.vocab};
  if (!options_.finds_best || !std::ranges::all_of(batch, on_device)) return out;
  draw(batch);
  out.best = best_;
  if (std::ranges::find(best_, kUndecided) == best_.end()) out.values = {};
  return out;
}

/// Every row's token; each fifth of the drawn ones is left to the engine.
void FakeExecutor::draw(std::span<const SequenceStep> batch) {
  best_.clear();
  auto row = logits_.begin();
  for (const SequenceStep& s : batch) {
    for (std::int32_t i = 0; i < s.logit_rows; ++i, row += options_.vocab) {
      if (!s.draw) {
        best_.push_back(static_cast<TokenId>(std::max_element(row, row + options_.vocab) - row));
        continue;
      }
      const auto token = sample_token(
          {.temperature = s.draw->temperature, .top_p = s.draw->top_p, .min_p = s.draw->min_p, .seed = s.draw->seed},
          {.logits = {row, row + options_.vocab},
           .position = s.draw->position + static_cast<std::uint64_t>(i),
           .choice = s.draw->choice});
      best_.push_back(++drawn_ % 5 == 0 || !token ? kUndecided : token->token);
    }
  }
}

}  // namespace hp
