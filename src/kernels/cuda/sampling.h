// Tokens from logits on the device: the arithmetic of engine/sampler.cpp and engine/vocab_scan.cpp, operation for
// operation, so that both draw the same token. What it does not do (top-k, penalties, masks) stays with the host.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

inline constexpr int kUndecided = -2;  ///< a token that the host must draw from the logits

/// How a row's token is drawn; temperature 0 takes the largest. 12 ints of a step's memory.
struct RowDraw {
  float temperature, top_p, min_p;
  unsigned choice;
  unsigned long long seed, position;
  int unused[4];
};
static_assert(sizeof(RowDraw) == 48);

/// tokens[i] of logits f32 [rows, vocab]: the lowest index on ties, -1 when no logit is a number above -inf,
/// kUndecided when too many tokens remain or a logit is infinite.
void draw_tokens(const float* logits, const RowDraw* draws, int rows, int vocab, int* tokens, cudaStream_t stream);

}  // namespace hp::cuda
