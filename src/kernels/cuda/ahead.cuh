// Thread blocks that only ask for memory: the next products' weights come into the L2 cache while an attention of few
// tokens, bound by latency, leaves the memory idle.
#pragma once

#include <cstdint>

#include "kernels/cuda/ahead.h"

namespace hp::cuda {

inline constexpr int kAheadBlocks = 64;
inline constexpr unsigned kAheadPiece = 4096;

/// Block `index` of `blocks` asks for its share. One warp of it works.
__device__ __forceinline__ void bring_ahead(const Ahead& ahead, int index, int blocks) {
  if (threadIdx.x >= 32) return;
  const auto lane = static_cast<unsigned>(index) * 32U + threadIdx.x, lanes = static_cast<unsigned>(blocks) * 32U;
#pragma unroll
  for (int r = 0; r < Ahead::kRanges; ++r) {
    if (r >= ahead.count) break;
    const auto data = static_cast<const std::uint8_t*>(ahead.data[r]);
    for (unsigned at = lane * kAheadPiece; at < ahead.bytes[r]; at += lanes * kAheadPiece) {
      asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(data + at)),
                   "r"(min(kAheadPiece, ahead.bytes[r] - at))
                   : "memory");
    }
  }
}

}  // namespace hp::cuda
