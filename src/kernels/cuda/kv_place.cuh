// Where an element of KV lies in its block, and a unit's blocks in shared memory: the same swizzled rows of 128 bytes.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

inline constexpr int kColumnBlock = 64;  ///< bf16 of a row of 128 bytes

/// Of dimension `dim` of a token, in elements from the start of the (block, kv head).
__device__ __forceinline__ int place_in_block(int token, int dim) {
  return (dim / kColumnBlock * kBlockTokens + token) * kColumnBlock + (((dim % kColumnBlock / 8) ^ (token & 7)) * 8) +
         dim % 8;
}

/// The start of a (block, kv head) in elements.
__device__ __forceinline__ std::size_t block_start(int block, int kv_head, int kv_heads, int head_dim) {
  return (static_cast<std::size_t>(block) * static_cast<std::size_t>(kv_heads) + static_cast<std::size_t>(kv_head)) *
         static_cast<std::size_t>(kBlockTokens * head_dim);
}

}  // namespace hp::cuda
