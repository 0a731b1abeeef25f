// Where an element of KV lies in its block. bf16: as in a unit's tile in shared memory, swizzled rows of 128 bytes.
// e4m3: rows of 64 bytes, which attention expands to bf16 (exactly) into the same tiles.
#pragma once

#include "kernels/cuda/attention.h"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {

inline constexpr int kColumnBlock = 64;  ///< bf16 of a row of 128 bytes

/// Of dimension `dim` of a token, in elements from the start of the (block, kv head).
__device__ __forceinline__ int place_in_block(int token, int dim) {
  return (dim / kColumnBlock * kBlockTokens + token) * kColumnBlock + (((dim % kColumnBlock / 8) ^ (token & 7)) * 8) +
         dim % 8;
}

/// Of four dimensions the middle ones change places, so that a shift brings pairs to the halves of a word.
__device__ __forceinline__ int place_in_fp8_block(int token, int dim) {
  const int within = dim % kColumnBlock / 4 * 4 + dim % 2 * 2 + dim / 2 % 2;
  return (dim / kColumnBlock * kBlockTokens + token) * kColumnBlock + within;
}

/// The start of a (block, kv head) in elements.
__device__ __forceinline__ std::size_t block_start(int block, int kv_head, int kv_heads, int head_dim) {
  return (static_cast<std::size_t>(block) * static_cast<std::size_t>(kv_heads) + static_cast<std::size_t>(kv_head)) *
         static_cast<std::size_t>(kBlockTokens * head_dim);
}

/// Writes dimension `dim` of a token into the block that begins at element `start`; returns it as attention reads it.
__device__ __forceinline__ Bf16 store_element(void* pool, bool fp8, std::size_t start, int token, int dim, float v) {
  if (!fp8) {
    const Bf16 rounded = __float2bfloat16_rn(v);
    static_cast<Bf16*>(pool)[start + static_cast<std::size_t>(place_in_block(token, dim))] = rounded;
    return rounded;
  }
  const __nv_fp8_storage_t rounded = __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
  static_cast<__nv_fp8_storage_t*>(pool)[start + static_cast<std::size_t>(place_in_fp8_block(token, dim))] = rounded;
  return __float2bfloat16_rn(__half2float(__half(__nv_cvt_fp8_to_halfraw(rounded, __NV_E4M3))));
}

inline constexpr int kChunkDims = 16;  ///< e4m3 of 16 bytes: the piece that a thread expands

/// Expands the 16 bytes of a block at `chunk` into a tile; `at(token, group)` is where the tile has a block's token and
/// group of 8 dimensions. A token of NaN stays one: its first byte tells.
template <typename At>
__device__ __forceinline__ void expand_chunk(const uint4& bytes, unsigned chunk, At&& at) {
  constexpr unsigned kRowChunks = kColumnBlock / kChunkDims;
  const int token = static_cast<int>(chunk / kRowChunks % kBlockTokens),
            group = static_cast<int>((chunk / (kRowChunks * kBlockTokens) * kRowChunks + chunk % kRowChunks) * 2);
  const std::uint32_t factor = (bytes.x & 0x7FU) == 0x7FU ? 0x7FFF7FFFU : kE4m3Factor;
  const auto four = [factor](std::uint32_t w) {
    return make_uint2(expanded(w << 8, w << 4, factor), expanded(w, w >> 4, factor));
  };
  const uint2 a = four(bytes.x), b = four(bytes.y), c = four(bytes.z), d = four(bytes.w);
  store_shared_16(at(token, group), make_uint4(a.x, a.y, b.x, b.y));
  store_shared_16(at(token, group + 1), make_uint4(c.x, c.y, d.x, d.y));
}

}  // namespace hp::cuda
