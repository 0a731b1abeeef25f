// Operations that only the AMX table has; the rest of that table is AVX-512's. Both tables give the same bits for
// quantized weights: AMX computes the same exact integers.
#pragma once

#include "kernels/params.h"

namespace hp::kernels::amx {

/// Rows from which a tile is faster than AVX-512.
inline constexpr std::int32_t kTileRowsMin = 5;

void matmul_quants(const MatmulArgs& args);
/// bf16 weights with bf16 activations.
void matmul_bf16(const MatmulArgs& args);

}  // namespace hp::kernels::amx
