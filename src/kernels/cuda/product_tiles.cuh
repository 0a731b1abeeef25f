// What the products of every weight form share: how tiles are dealt to thread blocks, and how a tile's sums leave them.
// A product's sum is that of four parts of K, in order; with few tokens four warpgroups compute the parts side by side.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {

inline constexpr std::uint64_t kEvictNormal = 0x1000000000000000ULL;
inline constexpr int kParts = 4;  // of K

/// How the warpgroups of a thread block share a tile.
enum class Way {
  parts,  ///< four, a part of K each, of 64 rows
  rows,   ///< two, 64 rows each, of 128
  chain,  ///< as rows, but all of K in one go: other bits
};

/// The tile shapes, smallest first: who shares a tile, and its tokens.
struct Choice {
  Way way;
  int columns;
};
inline constexpr Choice kChoices[] = {{Way::parts, 8},  {Way::parts, 16}, {Way::parts, 32},
                                      {Way::parts, 64}, {Way::rows, 128}, {Way::chain, 256}};
static_assert(kChoices[kTileChoices - 1].way == Way::rows && kChoices[kChainTile].way == Way::chain);

/// Where a product's results go, and the grouping of its rows.
struct ProductPlace {
  const float* row_scale;  ///< of the activations, or null
  const float* bias;
  void* out;
  int n, t, stride;
  const int4* groups;  ///< {expert, first row, end row, token}: experts' weights of n rows each lie one after the other
  const int* group_count;  ///< null without groups
  bool by_token;           ///< a group's row of activations is its token
  Epilogue epilogue;
  std::uint64_t weight_policy;
};

inline ProductPlace place_of(const MatmulOut& out, const MatmulGroups* groups, const float* row_scale, int n, int t,
                             bool by_token, bool weights_once) {
  return {row_scale,
          out.bias,
          out.data,
          n,
          t,
          out.stride,
          groups != nullptr ? groups->list : nullptr,
          groups != nullptr ? groups->count : nullptr,
          by_token,
          out.epilogue,
          weights_once ? kEvictFirst : kEvictNormal};
}

/// The first step of a part of K.
__device__ __forceinline__ int part_begin(int steps, int part) {
  return steps * part / kParts;
}

/// Steps of K.
struct Steps {
  int begin, end;
  /// Those of this thread block's share of a cluster.
  template <int kCluster>
  static __device__ __forceinline__ Steps own(int steps) {
    const int rank = static_cast<int>(blockIdx.x) % kCluster;
    return {part_begin(steps, rank * (kParts / kCluster)), part_begin(steps, (rank + 1) * (kParts / kCluster))};
  }
};

__device__ __forceinline__ float silu(float x) {
  return x / (1.0F + exp2_fast(-1.4426950408889634F * x));
}

/// A place in the ring of stages; steps up to all of them.
template <int kStages>
struct Ring {
  int stage = 0;
  std::uint32_t phase = 0;
  __device__ __forceinline__ void advance(int steps) {
    stage += steps;
    if (stage >= kStages) stage -= kStages, phase ^= 1U;
  }
};

/// The groups of a grouped product: in device memory or, just chosen, in shared memory. Null list: none.
struct Groups {
  const int4* list;
  int count;
};

/// The tiles that a thread block, or a cluster of `cluster`, computes, one after the other. Without groups neighbours
/// share their rows of the weight.
struct Tiles {
  int weight_row = 0;            ///< in the stored matrix
  int row = 0;                   ///< of the output
  int token = 0, end_token = 0;  ///< the tile's first row of the output, and where they end
  int from = 0;                  ///< the first row of activations
  const ProductPlace& p;
  const Groups& groups;
  int rows, columns, next, stride, count, row_tiles, token_tiles;

  __device__ __forceinline__ Tiles(const ProductPlace& params, const Groups& list, int tile_rows, int tile_columns,
                                   int cluster = 1)
      : p(params),
        groups(list),
        rows(tile_rows),
        columns(tile_columns),
        next(static_cast<int>(blockIdx.x) / cluster),
        stride(static_cast<int>(gridDim.x) / cluster) {
    row_tiles = (p.n + rows - 1) / rows;
    token_tiles = (p.t + columns - 1) / columns;
    count = row_tiles * (groups.list != nullptr ? groups.count : token_tiles);
    place();
  }
  __device__ __forceinline__ bool more() const { return next < count; }
  __device__ __forceinline__ void advance() {
    next += stride;
    place();
  }

 private:
  __device__ __forceinline__ void place() {
    if (next >= count) return;
    if (groups.list != nullptr) {
      const int4 group = groups.list[next / row_tiles];
      row = next % row_tiles * rows;
      weight_row = group.x * p.n + row;
      token = group.y, end_token = group.z;
      from = p.by_token ? group.w : token;
    } else {
      weight_row = row = next / token_tiles * rows;
      token = from = next % token_tiles * columns, end_token = p.t;
    }
  }
};

/// Tokens [first, first + kTokens) of a warpgroup's 64 rows into the result tile: [token][row].
template <int kColumns, int kTokens>
__device__ __forceinline__ void put(float* tile, int stride, const float (&d)[kColumns / 2], int round) {
  const int warp = static_cast<int>(threadIdx.x % 128U) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float* out = tile + 2 * (lane % 4) * stride + 16 * warp + lane / 4;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    if (j / (kTokens / 8) != round) continue;
    const int at = j % (kTokens / 8);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      out[(8 * at + c) * stride] = d[4 * j + c];
      out[(8 * at + c) * stride + 8] = d[4 * j + 2 + c];
    }
  }
}

__device__ __forceinline__ float4 add(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
__device__ __forceinline__ float4 scaled(float4 a, float s) {
  return make_float4(a.x * s, a.y * s, a.z * s, a.w * s);
}

/// Four neighbouring outputs of a token.
template <typename S>
__device__ __forceinline__ float4 take(const float* tile, int token, int row) {
  float4 sum = *reinterpret_cast<const float4*>(tile + token * S::kSumStride + row);
#pragma unroll
  for (int part = 1; part < S::kSumParts; ++part) {
    sum = add(sum, *reinterpret_cast<const float4*>(tile + (part * S::kSumTokens + token) * S::kSumStride + row));
  }
  return sum;
}

/// The result tile to memory, four outputs a thread, neighbouring threads on neighbouring outputs.
template <typename S>
__device__ __forceinline__ void store(const ProductPlace& p, const float* tile, const float* own_scale, int first_row,
                                      int first_token, int end_token, int column) {
  const bool swiglu = p.epilogue == Epilogue::swiglu;
  const int vectors = swiglu ? S::kTileRows / 8 : S::kTileRows / 4;
  const int tokens = min(S::kSumTokens, end_token - first_token);
  if constexpr (S::kInputBytes == 0) column = 0;
  for (int i = static_cast<int>(threadIdx.x); i < tokens * vectors; i += S::kWorkers) {
    const int token = i / vectors, vector = i % vectors;
    const float factor = S::kInputBytes > 0       ? own_scale[column + token]
                         : p.row_scale != nullptr ? p.row_scale[first_token + token]
                                                  : 1.0F;
    const std::size_t line = static_cast<std::size_t>(first_token + token) * static_cast<std::size_t>(p.stride);
    if (swiglu) {
      const int row = vector / 2 * 16 + vector % 2 * 4;
      if (first_row + row >= p.n) continue;
      const float4 g = scaled(take<S>(tile, column + token, row), factor);
      const float4 u = scaled(take<S>(tile, column + token, row + 8), factor);
      Bf16* out = static_cast<Bf16*>(p.out) + line + static_cast<std::size_t>(first_row / 2 + 4 * vector);
      *reinterpret_cast<uint2*>(out) =
          make_uint2(pack_bf16(silu(g.x) * u.x, silu(g.y) * u.y), pack_bf16(silu(g.z) * u.z, silu(g.w) * u.w));
      continue;
    }
    const int row = first_row + 4 * vector;
    if (row >= p.n) continue;
    float4 v = scaled(take<S>(tile, column + token, 4 * vector), factor);
    if (p.bias != nullptr) v = add(v, *reinterpret_cast<const float4*>(p.bias + row));
    if (p.epilogue == Epilogue::bf16) {
      Bf16* out = static_cast<Bf16*>(p.out) + line + static_cast<std::size_t>(row);
      *reinterpret_cast<uint2*>(out) = make_uint2(pack_bf16(v.x, v.y), pack_bf16(v.z, v.w));
    } else {
      float4* out = reinterpret_cast<float4*>(static_cast<float*>(p.out) + line + static_cast<std::size_t>(row));
      *out = p.epilogue == Epilogue::f32 ? v : add(*out, v);
    }
  }
}

}  // namespace hp::cuda
