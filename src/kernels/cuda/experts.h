// GPU operations of a mixture of experts: routing, grouping of tokens by expert, and the sum of what the experts give.
// The products are matmul's, over a list of groups that is made on the device.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

inline constexpr int kMostExperts = 256, kMostChosen = 16;

struct RouterShape {
  int experts = 0, chosen = 0;
  int groups = 1, chosen_groups = 1;
  bool sigmoid = false;    ///< else softmax over all experts
  bool best_two = false;   ///< a group's score is the sum of its best two, else its best
  bool normalize = false;  ///< weights of the chosen sum to one
  float weight_scale = 1.0F;
};

/// Tokens by expert: slot s of the grouped rows is token `token[s]`; token t's i-th expert is at slot[t · chosen + i].
struct Grouping {
  int* token = nullptr;     // [t · chosen]
  int* slot = nullptr;      // [t · chosen]
  float* weight = nullptr;  // [t · chosen]
  int* expert = nullptr;    // [t · chosen]
  int4* tiles = nullptr;    // {expert, first slot, end slot, -}: at most t · chosen / columns + experts
  int* tile_count = nullptr;
};

/// Chooses experts from logits f32 [t, experts] (bias [experts] or null: selects, does not weigh) and groups the tokens
/// into tiles of `columns`; 0 columns: a tile of one row, t · chosen + i, for each choice, and `token` is not written.
void route(const float* logits, const float* bias, const RouterShape& shape, int t, int columns,
           const Grouping& grouping, cudaStream_t stream);
/// out row s = in row token[s] (bf16 or fp8 with its scale).
void gather_rows(const Activations& in, const int* token, int slots, const Activations& out, cudaStream_t stream);
/// x[t] += Σ_i weight[t, i] · y[slot[t, i]], in order of i; y bf16 [slots, hidden].
void combine(const Bf16* y, const Grouping& grouping, int chosen, int t, int hidden, float* x, cudaStream_t stream);

}  // namespace hp::cuda
