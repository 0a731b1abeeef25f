// Weights of whole numbers, made on the device: launch.h's place_weight and random_weight come here for them.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

/// Rounds rows of a bf16 [rows, k] to nearest, a scale per group: of 8 bits the largest magnitude / 127, of 4 bits the
/// bf16 scale of 16 candidates with the least squared error, as `homeport quantize` chooses it.
void round_to_ints(const Bf16* rows_data, int rows, Matrix& out, int first, RowPlace place, cudaStream_t stream);
/// Uniform codes; the weights have the given deviation. A function of (seed, place in memory).
void random_ints(Matrix& out, float deviation, std::uint64_t seed, cudaStream_t stream);

}  // namespace hp::cuda
