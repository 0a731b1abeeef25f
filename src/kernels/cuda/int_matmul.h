// Products whose weight is whole numbers; launch.h's matmul and grouped_matmul come here for them.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

/// groups null: out[t, n] for the first t rows. tile as for matmul, not below 0. input.k is the weight's.
void int_matmul(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
                cudaStream_t stream, int tile);

int choose_int_tile(int n, int t, int multiprocessors);

}  // namespace hp::cuda
