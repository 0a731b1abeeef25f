// GPU operations of a mixture of experts: routing, grouping of tokens by expert, and the sum of what the experts give.
// The products are matmul's, over a list of groups that is made on the device.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

/// Chooses experts from logits f32 [t, experts] (bias [experts] or null: selects, does not weigh) and groups the tokens
/// into tiles of `columns`; 0 columns: a tile of one row, t · chosen + i, for each choice, and `token` is not written.
void route(const float* logits, const float* bias, const RouterShape& shape, int t, int columns,
           const Grouping& grouping, cudaStream_t stream);
/// out row s = in row token[s] (bf16 or fp8 with its scale).
void gather_rows(const Activations& in, const int* token, int slots, const Activations& out, cudaStream_t stream);
/// x[t] += Σ_i weight[t, i] · y[slot[t, i]], in order of i; y bf16 [slots, hidden].
void combine(const Bf16* y, const Grouping& grouping, int chosen, int t, int hidden, float* x, cudaStream_t stream);

}  // namespace hp::cuda
