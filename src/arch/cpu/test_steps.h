// Steps through an executor, for tests: prompts, block tables, chunks, and logits compared bit by bit.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "arch/executor.h"

namespace hp {

using Logits = std::vector<float>;

inline std::vector<TokenId> tokens(int count, int seed) {
  std::vector<TokenId> out;
  for (int i = 0; i < count; ++i) out.push_back((seed * 37 + i * i * 11 + i * 5) % 128);
  return out;
}

// Blocks in an order of no order, so that nothing relies on neighbours.
inline std::vector<BlockId> blocks(int count, int first) {
  std::vector<BlockId> out;
  for (int i = 0; i < count; ++i) out.push_back(BlockId{first + (i * 7) % count});
  return out;
}

inline Logits last_row(const StepLogits& logits, std::int32_t row) {
  const auto r = logits.row(row);
  return {r.begin(), r.end()};
}

inline Logits run_chunked(Executor& executor, const std::vector<TokenId>& prompt, std::size_t chunk, int first_block) {
  const auto table = blocks(61, first_block);
  Logits out;
  for (std::size_t at = 0; at < prompt.size(); at += chunk) {
    const std::size_t count = std::min(chunk, prompt.size() - at);
    const SequenceStep s{.tokens = std::span(prompt).subspan(at, count),
                         .position = static_cast<std::int32_t>(at),
                         .blocks = table,
                         .logit_rows = at + count == prompt.size() ? 1 : 0};
    const auto logits = executor.step(std::span(&s, 1));
    EXPECT_TRUE(logits);
    if (s.logit_rows == 1) out = last_row(*logits, 0);
  }
  return out;
}

inline bool same_bits(const Logits& a, const Logits& b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace hp
