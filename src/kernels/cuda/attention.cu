// Grouped-query attention over paged KV on the tensor instructions of bf16; e4m3 is expanded on its way in. Keys are
// taken in units of 128: a unit gives a partial result (maximum, sum, output) from nothing, and partial results are
// folded in the order of the units. A decode computes its units in parallel and folds them afterwards; a prefill tile
// computes and folds as it goes.
//
// Batch invariance: both ways run the same instructions on the same numbers for every (token, head): scores over the
// head's dimensions in order; the sum of a unit by chunks of 32 keys; the output over a unit's keys in order; the same
// fold.
#include "kernels/cuda/attention.h"

#include "kernels/cuda/ahead.cuh"
#include "kernels/cuda/fold.cuh"
#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/kv_place.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kWarpRows = 16;      // rows of the tensor instruction: (token, head of the group) pairs
inline constexpr int kChunkKeys = 32;     // of a unit, summed by themselves
inline constexpr int kDecodeWarps = 4;    // one chunk each, then a share of the output's dimensions each
inline constexpr int kPrefillGroups = 2;  // warpgroups of a prefill tile, 64 rows each
inline constexpr int kPrefillThreads = kPrefillGroups * 128 + 128;  // and one that copies
inline constexpr int kPrefillStages = 3;
inline constexpr int kUnitBlocks = kUnitKeys / kBlockTokens;
static_assert(kDecodeWarps * kChunkKeys == kUnitKeys);

/// Element (row, group of 8 columns) of a [128, kDim] bf16 tile in shared memory: blocks of 64 columns, rows of 128
/// bytes in them swizzled as the tensor cores read them.
template <int kDim>
__device__ __forceinline__ Bf16* tile_at(Bf16* tile, int row, int chunk) {
  return tile + (chunk / 8) * kUnitKeys * 64 + row * 64 + (((chunk % 8) ^ (row & 7)) * 8);
}

inline constexpr std::uint32_t kPieceBytes = kBlockTokens * kColumnBlock * sizeof(Bf16);

/// The blocks of a unit that hold keys below `length`.
__device__ __forceinline__ int unit_blocks(int unit, int length) {
  return min(kUnitBlocks, (length - unit * kUnitKeys + kBlockTokens - 1) / kBlockTokens);
}

/// One warp starts copying a unit's keys or values of one KV head; lane 0 announces the bytes.
template <int kDim>
__device__ __forceinline__ void copy_unit(Bf16* tile, const void* pool, const int* table, int unit, int blocks,
                                          int kv_heads, int kv_head, std::uint64_t* barrier) {
  constexpr int kPieces = kDim / kColumnBlock;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) barrier_expect(barrier, static_cast<std::uint32_t>(blocks * kPieces) * kPieceBytes);
  if (lane >= blocks * kPieces) return;
  const int block = lane / kPieces, piece = lane % kPieces;
  const Bf16* in = static_cast<const Bf16*>(pool) +
                   block_start(table[unit * kUnitBlocks + block], kv_head, kv_heads, kDim) +
                   piece * kBlockTokens * kColumnBlock;
  copy_bytes(tile + (piece * kUnitKeys + block * kBlockTokens) * kColumnBlock, in, kPieceBytes, barrier);
}

/// Zeros for the values of blocks that are not copied: nothing times garbage would be garbage.
template <int kDim>
__device__ __forceinline__ void zero_values(Bf16* tile, int blocks, int thread, int threads) {
  const int from = blocks * kBlockTokens * 8;
  for (int i = thread; i < kDim / kColumnBlock * (kUnitKeys * 8 - from); i += threads) {
    const int piece = i / (kUnitKeys * 8 - from), at = from + i % (kUnitKeys * 8 - from);
    reinterpret_cast<uint4*>(tile)[piece * kUnitKeys * 8 + at] = make_uint4(0, 0, 0, 0);
  }
}

/// Where a block's token lies in a unit's tile (expand_chunk).
template <int kDim>
__device__ __forceinline__ auto block_in_tile(Bf16* tile, unsigned block) {
  return [=](int token, int group) { return tile_at<kDim>(tile, token, group) + block * kBlockTokens * kColumnBlock; };
}

/// A unit's keys or values of e4m3 on their way through the registers of a decode's threads: each has one chunk of the
/// same place in some of the blocks.
template <int kDim>
struct UnitBytes {
  static constexpr unsigned kThreads = kDecodeWarps * 32, kBlockChunks = kBlockTokens * kDim / kChunkDims,
                            kSideBySide = kThreads / kBlockChunks, kCount = kUnitBlocks / kSideBySide;
  uint4 chunk[kCount];

  /// Numbers of this thread's blocks; -1: not there.
  using Blocks = int[kCount];
  __device__ __forceinline__ static void find(Blocks& out, const int* table, int unit, int blocks) {
#pragma unroll
    for (unsigned i = 0; i < kCount; ++i) {
      const unsigned block = i * kSideBySide + threadIdx.x / kBlockChunks;
      out[i] = static_cast<int>(block) < blocks ? table[unit * kUnitBlocks + static_cast<int>(block)] : -1;
    }
  }
  __device__ __forceinline__ void load(const void* pool, const Blocks& from, int kv_heads, int kv_head) {
    const auto* own = static_cast<const std::uint8_t*>(pool) + threadIdx.x % kBlockChunks * kChunkDims;
#pragma unroll
    for (unsigned i = 0; i < kCount; ++i) {
      chunk[i] = make_uint4(0, 0, 0, 0);
      if (from[i] >= 0) chunk[i] = load_16(own + block_start(from[i], kv_head, kv_heads, kDim));
    }
  }
  __device__ __forceinline__ void expand(Bf16* tile) const {
#pragma unroll
    for (unsigned i = 0; i < kCount; ++i) {
      const unsigned block = i * kSideBySide + threadIdx.x / kBlockChunks;
      expand_chunk(chunk[i], threadIdx.x % kBlockChunks, block_in_tile<kDim>(tile, block));
    }
  }
};

/// The 16 query rows of a warp as operands: row r is token first + r / group, head r % group; beyond `tokens` zeros.
template <int kDim>
__device__ __forceinline__ void load_queries(std::uint32_t (&q)[kDim / 16][4], const Bf16* qkv,
                                             const AttentionShape& shape, int row0, int kv_head, int first_index,
                                             int tokens) {
  const int lane = static_cast<int>(threadIdx.x) % 32, group = shape.group();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int index = first_index + lane / 4 + 8 * half;
    const bool valid = index < tokens * group;
    const Bf16* in =
        qkv + static_cast<std::size_t>(row0 + (valid ? index / group : 0)) * static_cast<std::size_t>(shape.row()) +
        static_cast<std::size_t>((kv_head * group + (valid ? index % group : 0)) * kDim);
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
      const int at = s * 16 + (lane % 4) * 2;
      q[s][half] = valid ? *reinterpret_cast<const std::uint32_t*>(in + at) : 0U;
      q[s][2 + half] = valid ? *reinterpret_cast<const std::uint32_t*>(in + at + 8) : 0U;
    }
  }
}

/// The angles of a decode's position, in shared memory before the kernel before has finished.
template <int kDim>
struct Angles {
  float cos[kDim / 2], sin[kDim / 2];
  __device__ __forceinline__ void load(const RopeArgs& rope, int position) {
    const std::size_t from = static_cast<std::size_t>(position) * (kDim / 2);
    const int i = static_cast<int>(threadIdx.x);
    if (i < kDim / 2) cos[i] = rope.cos[from + i], sin[i] = rope.sin[from + i];
  }
};

/// Rotates a query that lies in operand registers; every lane holds both dimensions of its pairs.
template <int kDim>
__device__ __forceinline__ void rotate_queries(std::uint32_t (&q)[kDim / 16][4], const Angles<kDim>& angles,
                                               bool interleaved) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float *cos = angles.cos, *sin = angles.sin;
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const int within = (lane % 4) * 2 + (part >= 2 ? 8 : 0);
    if (interleaved) {
#pragma unroll
      for (int s = 0; s < kDim / 16; ++s) {
        const int pair = (s * 16 + within) / 2;
        const float2 v = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162*>(&q[s][part]));
        const float2 r = rotated(v.x, v.y, cos[pair], sin[pair]);
        q[s][part] = pack_bf16(r.x, r.y);
      }
    } else {
#pragma unroll
      for (int s = 0; s < kDim / 32; ++s) {
        const int pair = s * 16 + within;
        const float2 a = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162*>(&q[s][part]));
        const float2 b = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162*>(&q[s + kDim / 32][part]));
        const float2 x = rotated(a.x, b.x, cos[pair], sin[pair]), y = rotated(a.y, b.y, cos[pair + 1], sin[pair + 1]);
        q[s][part] = pack_bf16(x.x, y.x);
        q[s + kDim / 32][part] = pack_bf16(x.y, y.y);
      }
    }
  }
}

/// A decode's own token in the registers of one warp: its raw key as pairs to rotate, and its value.
template <int kDim>
struct OwnToken {
  static constexpr int kPairs = kDim / 64;  // of a lane
  Bf16 a[kPairs], b[kPairs], v[2 * kPairs];
  std::size_t block;
  int position;

  static __device__ __forceinline__ int2 dims(int i, bool interleaved) {
    const int pair = static_cast<int>(threadIdx.x) % 32 + 32 * i;
    return interleaved ? make_int2(2 * pair, 2 * pair + 1) : make_int2(pair, pair + kDim / 2);
  }
  __device__ __forceinline__ void load(const Bf16* qkv, const AttentionShape& shape, bool interleaved, const int* table,
                                       int row, int kv_head, int at) {
    const Bf16* k = qkv + static_cast<std::size_t>(row) * static_cast<std::size_t>(shape.row()) +
                    static_cast<std::size_t>((shape.heads + kv_head) * kDim);
    const Bf16* value = k + static_cast<std::size_t>(shape.kv_heads * kDim);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) a[i] = k[dims(i, interleaved).x], b[i] = k[dims(i, interleaved).y];
#pragma unroll
    for (int i = 0; i < 2 * kPairs; ++i) v[i] = value[static_cast<int>(threadIdx.x) % 32 + 32 * i];
    block = block_start(table[at / kBlockTokens], kv_head, shape.kv_heads, kDim);
    position = at;
  }
  /// Puts an element into the cache and, as rounded there, into the unit's tile.
  template <bool kFp8>
  __device__ __forceinline__ void put(void* pool, Bf16* tile, int dim, float x) const {
    tile_at<kDim>(tile, position % kUnitKeys, dim / 8)[dim % 8] =
        store_element(pool, kFp8, block, position % kBlockTokens, dim, x);
  }
  template <bool kFp8>
  __device__ __forceinline__ void store_key(const KvLayer& kv, const Angles<kDim>& angles, bool interleaved,
                                            Bf16* keys) const {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = static_cast<int>(threadIdx.x) % 32 + 32 * i;
      const float2 r = rotated(__bfloat162float(a[i]), __bfloat162float(b[i]), angles.cos[pair], angles.sin[pair]);
      put<kFp8>(kv.k, keys, dims(i, interleaved).x, r.x);
      put<kFp8>(kv.k, keys, dims(i, interleaved).y, r.y);
    }
  }
  template <bool kFp8>
  __device__ __forceinline__ void store_value(const KvLayer& kv, Bf16* values) const {
#pragma unroll
    for (int i = 0; i < 2 * kPairs; ++i)
      put<kFp8>(kv.v, values, static_cast<int>(threadIdx.x) % 32 + 32 * i, __bfloat162float(v[i]));
  }
};

/// Scores of 16 rows against 8 keys from `key0` of the tile.
template <int kDim>
__device__ __forceinline__ void score_keys(float (&s)[4], const std::uint32_t (&q)[kDim / 16][4], Bf16* keys,
                                           int key0) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  s[0] = s[1] = s[2] = s[3] = 0.0F;
#pragma unroll
  for (int step = 0; step < kDim / 16; step += 2) {
    std::uint32_t b[4];
    load_matrices(b, tile_at<kDim>(keys, key0 + lane % 8, step * 2 + lane / 8));
    mma_16x8x16(s, q[step], b[0], b[1]);
    mma_16x8x16(s, q[step + 1], b[2], b[3]);
  }
}

/// out[16 rows, 16 dims from dim0] += P[16, 16 keys from key0] · V.
template <int kDim>
__device__ __forceinline__ void add_values(float (&low)[4], float (&high)[4], const std::uint32_t (&p)[4], Bf16* values,
                                           int key0, int dim0) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t b[4];
  load_matrices_transposed(b, tile_at<kDim>(values, key0 + lane % 16, dim0 / 8 + lane / 16));
  mma_16x8x16(low, p, b[0], b[1]);
  mma_16x8x16(high, p, b[2], b[3]);
}

__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFU, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xFFFFFFFFU, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(0xFFFFFFFFU, v, 1);
  return v + __shfl_xor_sync(0xFFFFFFFFU, v, 2);
}

/// Powers of one chunk's scores and their sum per row, in the order that both kernels share.
__device__ __forceinline__ void chunk_powers(float* s, const float (&peak)[2], float scale, float (&sum)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float shift = peak[half] == -INFINITY ? 0.0F : __fmul_rn(peak[half], scale);
    float total = 0.0F;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& x = s[4 * n + 2 * half + c];
        x = exp2_fast(__fmaf_rn(x, scale, -shift));
        total += x;
      }
    }
    sum[half] = quad_sum(total);
  }
}

/// A decode's partial result of one unit: {work, kv head}. With `rope` (not null) the rows of qkv are raw, and the unit
/// that holds the decode's own token rotates and stores it.
template <int kDim, bool kFp8>
__global__ void __launch_bounds__(kDecodeWarps * 32, kFp8 ? 5 : 0)
    decode_kernel(const Bf16* qkv, AttentionShape shape, KvLayer kv, AttentionBatch batch, float scale, RopeArgs rope,
                  float* out, float* peaks) {
  launch_dependents();
  if (static_cast<int>(blockIdx.x) >= batch.works) {
    wait_for_previous();
    const int blocks = static_cast<int>(gridDim.x) - batch.works;
    bring_ahead(batch.ahead, static_cast<int>(blockIdx.y) * blocks + static_cast<int>(blockIdx.x) - batch.works,
                blocks * static_cast<int>(gridDim.y));
    return;
  }
  // Work lists and what earlier steps cached do not depend on the kernel before: their loads start at once.
  const int2 work = batch.work[blockIdx.x];
  const int entry = work.x, unit = work.y, kv_head = static_cast<int>(blockIdx.y);
  if (entry < 0) return;
  const int length = batch.decode_length[entry], row_of_batch = batch.decode_row[entry];
  const bool rotates = rope.cos != nullptr;
  extern __shared__ std::uint8_t raw[];
  Bf16* keys = reinterpret_cast<Bf16*>(raw + (128U - (shared_address(raw) & 127U)) % 128U);
  Bf16* values = kFp8 ? keys : keys + kUnitKeys * kDim;  // e4m3 waits in registers until the keys are read
  Bf16* powers = values + kUnitKeys * kDim;              // [16, 128 + 8]
  constexpr int kPowerStride = kUnitKeys + 8;
  __shared__ float chunk_peak[kDecodeWarps][kWarpRows], chunk_sum[kDecodeWarps][kWarpRows];
  __shared__ std::uint64_t keys_here, values_here;
  const int* table = batch.tables + static_cast<std::size_t>(batch.decode_sequence[entry]) *
                                        static_cast<std::size_t>(batch.table_stride);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, group = shape.group(),
            blocks = unit_blocks(unit, length);
  if (threadIdx.x == 0) {
    barrier_init(&keys_here, 1);
    barrier_init(&values_here, 1);
    barrier_init_fence();
  }
  if (!rotates) wait_for_previous();
  [[maybe_unused]] UnitBytes<kDim> value_bytes;
  if constexpr (kFp8) {
    UnitBytes<kDim> key_bytes;
    typename UnitBytes<kDim>::Blocks here;
    UnitBytes<kDim>::find(here, table, unit, blocks);
    key_bytes.load(kv.k, here, shape.kv_heads, kv_head);
    key_bytes.expand(keys);
    value_bytes.load(kv.v, here, shape.kv_heads, kv_head);
  } else {
    __syncwarp();
    if (warp == 0) {
      copy_unit<kDim>(keys, kv.k, table, unit, blocks, shape.kv_heads, kv_head, &keys_here);
      copy_unit<kDim>(values, kv.v, table, unit, blocks, shape.kv_heads, kv_head, &values_here);
    }
    zero_values<kDim>(values, blocks, static_cast<int>(threadIdx.x), kDecodeWarps * 32);
  }
  __shared__ Angles<kDim> angles;
  OwnToken<kDim> own;
  const bool has_own = rotates && unit == (length - 1) / kUnitKeys, stores = has_own && warp == 0;
  if (rotates) angles.load(rope, length - 1), wait_for_previous();
  if (stores) own.load(qkv, shape, rope.interleaved, table, row_of_batch, kv_head, length - 1);
  std::uint32_t q[kDim / 16][4];
  load_queries<kDim>(q, qkv, shape, row_of_batch, kv_head, 0, 1);
  __syncthreads();  // the barriers, or the expanded keys, are there for all
  if (!kFp8) barrier_wait(&keys_here, 0);
  if (stores) {
    own.template store_key<kFp8>(kv, angles, rope.interleaved, keys);
    if (!kFp8) {
      barrier_wait(&values_here, 0);
      own.template store_value<kFp8>(kv, values);
    }
  }
  if (rotates) rotate_queries<kDim>(q, angles, rope.interleaved);
  if (has_own) __syncthreads();

  float s[4][4], peak[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    score_keys<kDim>(s[n], q, keys, warp * kChunkKeys + n * 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = unit * kUnitKeys + warp * kChunkKeys + n * 8 + (lane % 4) * 2 + (i & 1);
      if (key >= length) s[n][i] = -INFINITY;
      peak[i / 2] = fmaxf(peak[i / 2], s[n][i]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    peak[half] = quad_max(peak[half]);
    if (lane % 4 == 0) chunk_peak[warp][lane / 4 + 8 * half] = peak[half];
  }
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w) peak[half] = fmaxf(peak[half], chunk_peak[w][lane / 4 + 8 * half]);
  }
  if constexpr (kFp8) value_bytes.expand(values);
  float sum[2];
  chunk_powers(&s[0][0], peak, scale, sum);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
    if (lane % 4 == 0) chunk_sum[warp][row] = sum[half];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      *reinterpret_cast<std::uint32_t*>(powers + row * kPowerStride + warp * kChunkKeys + n * 8 + (lane % 4) * 2) =
          pack_bf16(s[n][2 * half], s[n][2 * half + 1]);
    }
  }
  if (!kFp8) barrier_wait(&values_here, 0);
  __syncthreads();
  if (kFp8 && has_own) {
    if (stores) own.template store_value<kFp8>(kv, values);
    __syncthreads();
  }

  constexpr int kShare = kDim / kDecodeWarps;
  float o[kShare / 8][4];
#pragma unroll
  for (auto& tile : o) tile[0] = tile[1] = tile[2] = tile[3] = 0.0F;
#pragma unroll
  for (int step = 0; step < kUnitKeys / 16; ++step) {
    std::uint32_t p[4];
    load_matrices(p, powers + (lane % 16) * kPowerStride + step * 16 + (lane / 16) * 8);
#pragma unroll
    for (int pair = 0; pair < kShare / 16; ++pair) {
      add_values<kDim>(o[2 * pair], o[2 * pair + 1], p, values, step * 16, warp * kShare + pair * 16);
    }
  }
  const std::size_t part = (static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(shape.kv_heads) +
                            static_cast<std::size_t>(kv_head)) *
                           static_cast<std::size_t>(group);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
    if (row >= group) continue;
    float* to =
        out + (part + static_cast<std::size_t>(row)) * kDim + static_cast<std::size_t>(warp * kShare + (lane % 4) * 2);
#pragma unroll
    for (int n = 0; n < kShare / 8; ++n)
      *reinterpret_cast<float2*>(to + n * 8) = make_float2(o[n][2 * half], o[n][2 * half + 1]);
    if (warp == 0 && lane % 4 == 0) {
      float total = 0.0F;
#pragma unroll
      for (int w = 0; w < kDecodeWarps; ++w) total += chunk_sum[w][row];
      peaks[2 * (part + static_cast<std::size_t>(row))] = __fmul_rn(peak[half], scale);
      peaks[2 * (part + static_cast<std::size_t>(row)) + 1] = total;
    }
  }
}

/// Folds a decode's units in order: {kv head · group + head, decode}, four elements a thread.
template <int kDim>
__global__ void __launch_bounds__(kDim / 4)
    fold_kernel(AttentionShape shape, AttentionBatch batch, const float* parts, const float* peaks, Bf16* attended) {
  launch_dependents();
  const int head = static_cast<int>(blockIdx.x), entry = static_cast<int>(blockIdx.y);
  const int length = batch.decode_length[entry], to = batch.decode_row[entry];
  if (length == 0) return;
  const std::size_t first =
      static_cast<std::size_t>(batch.decode_first[entry]) * static_cast<std::size_t>(shape.heads) +
      static_cast<std::size_t>(head);
  const int dim = static_cast<int>(threadIdx.x) * 4;
  wait_for_previous();
  Running row;
  const float4 total =
      fold_parts(parts, peaks, first, (length + kUnitKeys - 1) / kUnitKeys, shape.heads, kDim, dim, row);
  *reinterpret_cast<uint2*>(
      attended +
      (static_cast<std::size_t>(to) * static_cast<std::size_t>(shape.heads) + static_cast<std::size_t>(head)) * kDim +
      dim) = folded_bf16(total, row);
}

/// Scores of a warpgroup's 64 rows against a unit's 128 keys.
template <int kDim>
__device__ __forceinline__ void score_unit(float (&s)[64], const std::uint32_t (&q)[kDim / 16][4], std::uint32_t keys) {
  products_begin();
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    const std::uint32_t at = keys + static_cast<std::uint32_t>(step / 4 * kUnitKeys * 128 + step % 4 * 32);
    RegisterProduct<kUnitKeys, false>::run(s, q[step], operand_descriptor(at), step > 0);
  }
  products_commit();
  products_wait<0>();
}

/// out [64 rows, kDim] = P [64, 128 keys] · V.
template <int kDim>
__device__ __forceinline__ void weigh_unit(float (&out)[kDim / 2], const std::uint32_t (&p)[kUnitKeys / 16][4],
                                           std::uint32_t values) {
  products_begin();
#pragma unroll
  for (int step = 0; step < kUnitKeys / 16; ++step) {
    const std::uint32_t at = values + static_cast<std::uint32_t>(step * 16 * 128);
    RegisterProduct<kDim, true>::run(out, p[step], column_operand_descriptor(at, kUnitKeys * 128), step > 0);
  }
  products_commit();
  products_wait<0>();
}

/// A lane's two rows of a prefill: the last key that each sees.
struct RowKeys {
  int last[2];
  int first_of_group;  // the least of the warpgroup's rows
};

/// Masks a unit's scores and turns them into powers, as operands of the product with the values; peaks and sums per
/// row.
__device__ __forceinline__ void unit_powers(float (&s)[64], const RowKeys& rows, int unit, float scale,
                                            std::uint32_t (&p)[kUnitKeys / 16][4], float (&peak)[2], float (&sum)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if ((unit + 1) * kUnitKeys - 1 > rows.first_of_group) {
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      const int key = unit * kUnitKeys + i / 4 * 8 + (lane % 4) * 2 + (i & 1);
      if (key > rows.last[(i / 2) & 1]) s[i] = -INFINITY;
    }
  }
  peak[0] = peak[1] = -INFINITY;
#pragma unroll
  for (int i = 0; i < 64; ++i) peak[(i / 2) & 1] = fmaxf(peak[(i / 2) & 1], s[i]);
  peak[0] = quad_max(peak[0]);
  peak[1] = quad_max(peak[1]);
  sum[0] = sum[1] = 0.0F;
#pragma unroll
  for (int c = 0; c < kUnitKeys / kChunkKeys; ++c) {
    float part[2];
    chunk_powers(s + 16 * c, peak, scale, part);
    sum[0] += part[0];
    sum[1] += part[1];
  }
#pragma unroll
  for (int step = 0; step < kUnitKeys / 16; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) p[step][i] = pack_bf16(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
  }
}

template <int kDim>
struct PrefillMemory {
  Bf16 tile[kPrefillStages][2][kUnitKeys * kDim];  // keys, values
};
template <int kDim>
struct Fp8PrefillMemory : PrefillMemory<kDim> {
  std::uint8_t bytes[2][kUnitKeys * kDim];  // keys, values of the unit that is expanded next
};
template <int kDim, bool kFp8>
using PrefillMemoryOf = std::conditional_t<kFp8, Fp8PrefillMemory<kDim>, PrefillMemory<kDim>>;

/// The copying warp: units in order into the stages.
template <int kDim>
__device__ __forceinline__ void copy_units(PrefillMemory<kDim>& memory, std::uint64_t* full, std::uint64_t* empty,
                                           const KvLayer& kv, const int* table, int length, int kv_heads, int kv_head) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int unit = 0; unit * kUnitKeys < length; ++unit) {
    const int stage = unit % kPrefillStages;
    if (unit >= kPrefillStages) barrier_wait(&empty[stage], static_cast<std::uint32_t>(unit / kPrefillStages - 1) & 1U);
    const int blocks = unit_blocks(unit, length);
    zero_values<kDim>(memory.tile[stage][1], blocks, lane, 32);
    shared_writes_to_tensor_cores();
    __syncwarp();
    copy_unit<kDim>(memory.tile[stage][0], kv.k, table, unit, blocks, kv_heads, kv_head, &full[stage]);
    copy_unit<kDim>(memory.tile[stage][1], kv.v, table, unit, blocks, kv_heads, kv_head, &full[stage]);
    __syncwarp();
  }
}

/// The same of e4m3 by a warpgroup: its first warp copies a unit's blocks as they are, all expand them into the stages.
template <int kDim>
__device__ __forceinline__ void expand_units(Fp8PrefillMemory<kDim>& memory, std::uint64_t* full, std::uint64_t* empty,
                                             std::uint64_t* here, const KvLayer& kv, const int* table, int length,
                                             int kv_heads, int kv_head) {
  constexpr int kBlockBytes = kBlockTokens * kDim;
  constexpr unsigned kBlockChunks = kBlockBytes / kChunkDims;
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const auto copy = [&](int part, int unit) {
    const int blocks = unit_blocks(unit, length);
    if (thread == 0) barrier_expect(&here[part], static_cast<std::uint32_t>(blocks * kBlockBytes));
    if (thread >= blocks) return;
    const auto* in = static_cast<const std::uint8_t*>(part == 0 ? kv.k : kv.v) +
                     block_start(table[unit * kUnitBlocks + thread], kv_head, kv_heads, kDim);
    copy_bytes(memory.bytes[part] + thread * kBlockBytes, in, kBlockBytes, &here[part]);
  };
  copy(0, 0);
  copy(1, 0);
  for (int unit = 0; unit * kUnitKeys < length; ++unit) {
    const int stage = unit % kPrefillStages, blocks = unit_blocks(unit, length);
    if (unit >= kPrefillStages) barrier_wait(&empty[stage], static_cast<std::uint32_t>(unit / kPrefillStages - 1) & 1U);
#pragma unroll 1
    for (int part = 0; part < 2; ++part) {
      barrier_wait(&here[part], static_cast<std::uint32_t>(unit) & 1U);
#pragma unroll 2
      for (unsigned at = threadIdx.x % 128; at < kUnitBlocks * kBlockChunks; at += 128) {
        const unsigned block = at / kBlockChunks;
        uint4 bytes = make_uint4(0, 0, 0, 0);
        if (static_cast<int>(block) < blocks) bytes = load_shared_16(memory.bytes[part] + at * kChunkDims);
        expand_chunk(bytes, at % kBlockChunks, block_in_tile<kDim>(memory.tile[stage][part], block));
      }
      shared_writes_to_tensor_cores();
      named_barrier<1, 128>();  // all have read the bytes and written the tile
      if (thread == 0) barrier_arrive(&full[stage]);
      if ((unit + 1) * kUnitKeys < length) copy(part, unit + 1);
    }
  }
}

/// A warpgroup's 64 rows: scores, powers and weighted values of one unit after the other, folded in order.
template <int kDim>
__device__ __forceinline__ void prefill_rows(PrefillMemory<kDim>& memory, std::uint64_t* full, std::uint64_t* empty,
                                             const Bf16* qkv, const AttentionShape& shape, const int4& tile,
                                             int kv_head, float scale, Bf16* attended) {
  const int lane = static_cast<int>(threadIdx.x) % 32, group = shape.group();
  const int group_index = static_cast<int>(threadIdx.x) / 128 * 64,
            first_index = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const int length = tile.z + tile.w;
  std::uint32_t q[kDim / 16][4];
  load_queries<kDim>(q, qkv, shape, tile.x, kv_head, first_index, tile.w);
  RowKeys row_keys;
#pragma unroll
  for (int half = 0; half < 2; ++half) row_keys.last[half] = tile.z + (first_index + lane / 4 + 8 * half) / group;
  row_keys.first_of_group = tile.z + group_index / group;
  const int last_of_group = tile.z + (group_index + 63) / group;
  const bool active = group_index < tile.w * group;

  Running rows[2] = {{-INFINITY, 0.0F}, {-INFINITY, 0.0F}};
  float total[kDim / 2];
#pragma unroll
  for (float& t : total) t = 0.0F;
#pragma unroll 1
  for (int unit = 0; unit * kUnitKeys < length; ++unit) {
    const int stage = unit % kPrefillStages;
    barrier_wait(&full[stage], static_cast<std::uint32_t>(unit / kPrefillStages) & 1U);
    if (unit * kUnitKeys <= last_of_group && active) {
      std::uint32_t p[kUnitKeys / 16][4];
      float peak[2], sum[2], keep[2], add[2];
      {
        float s[64];
        score_unit<kDim>(s, q, shared_address(memory.tile[stage][0]));
        unit_powers(s, row_keys, unit, scale, p, peak, sum);
      }
      float part[kDim / 2];
      weigh_unit<kDim>(part, p, shared_address(memory.tile[stage][1]));
      if (lane == 0) barrier_arrive(&empty[stage]);
#pragma unroll
      for (int half = 0; half < 2; ++half)
        fold_factors(rows[half], __fmul_rn(peak[half], scale), sum[half], keep[half], add[half]);
#pragma unroll
      for (int i = 0; i < kDim / 2; ++i) total[i] = fold(total[i], keep[(i / 2) & 1], part[i], add[(i / 2) & 1]);
    } else if (lane == 0) {
      barrier_arrive(&empty[stage]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int index = first_index + lane / 4 + 8 * half;
    if (index >= tile.w * group) continue;
    Bf16* out = attended +
                (static_cast<std::size_t>(tile.x + index / group) * static_cast<std::size_t>(shape.heads) +
                 static_cast<std::size_t>(kv_head * group + index % group)) *
                    kDim +
                static_cast<std::size_t>((lane % 4) * 2);
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      *reinterpret_cast<std::uint32_t*>(out + n * 8) = pack_bf16(
          __fdiv_rn(total[4 * n + 2 * half], rows[half].sum), __fdiv_rn(total[4 * n + 2 * half + 1], rows[half].sum));
    }
  }
}

/// A prefill tile: {kv head, tile}; two warpgroups with 64 (token, head) rows each and one that copies.
template <int kDim, bool kFp8>
__global__ void __launch_bounds__(kPrefillThreads, 1)
    prefill_kernel(const Bf16* qkv, AttentionShape shape, KvLayer kv, AttentionBatch batch, float scale,
                   Bf16* attended) {
  using Memory = PrefillMemoryOf<kDim, kFp8>;
  extern __shared__ std::uint8_t raw[];
  auto& memory = *reinterpret_cast<Memory*>(raw + (1024U - (shared_address(raw) & 1023U)) % 1024U);
  __shared__ std::uint64_t full[kPrefillStages], empty[kPrefillStages], here[2];
  if (threadIdx.x == 0) {
    for (int s = 0; s < kPrefillStages; ++s) {
      barrier_init(&full[s], 2);
      barrier_init(&empty[s], kPrefillGroups * 4);
    }
    barrier_init(&here[0], 1);
    barrier_init(&here[1], 1);
    barrier_init_fence();
  }
  __syncthreads();
  launch_dependents();
  wait_for_previous();
  const int4 tile = batch.tile[gridDim.y - 1 - blockIdx.y];  // the last, longest tiles start first
  const int kv_head = static_cast<int>(blockIdx.x);
  if (threadIdx.x >= kPrefillGroups * 128) {
    fewer_registers<kFp8 ? 56 : 24>();
    const int* table = batch.tables + static_cast<std::size_t>(tile.y) * static_cast<std::size_t>(batch.table_stride);
    if constexpr (kFp8) {
      expand_units<kDim>(memory, full, empty, here, kv, table, tile.z + tile.w, shape.kv_heads, kv_head);
    } else if (threadIdx.x < kPrefillGroups * 128 + 32) {
      copy_units<kDim>(memory, full, empty, kv, table, tile.z + tile.w, shape.kv_heads, kv_head);
    }
  } else {
    more_registers<kFp8 ? 224 : 240>();
    prefill_rows<kDim>(memory, full, empty, qkv, shape, tile, kv_head, scale, attended);
  }
}

template <int kDim, bool kFp8>
void run(const Bf16* qkv, const AttentionShape& shape, const KvLayer& kv, const AttentionBatch& batch, float scale,
         const RopeArgs* rope, float* scratch, Bf16* attended, cudaStream_t stream) {
  constexpr std::size_t kDecodeShared =
      ((kFp8 ? 1 : 2) * kUnitKeys * kDim + kWarpRows * (kUnitKeys + 8)) * sizeof(Bf16) + 128;
  constexpr std::size_t kPrefillShared = sizeof(PrefillMemoryOf<kDim, kFp8>) + 1024;
  static const int ready = [] {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(decode_kernel<kDim, kFp8>),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kDecodeShared));
    cudaFuncSetAttribute(reinterpret_cast<const void*>(prefill_kernel<kDim, kFp8>),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kPrefillShared));
    return 0;
  }();
  (void)ready;
  const float log2_scale = scale * 1.4426950408889634F;
  if (batch.tiles > 0) {
    launch(prefill_kernel<kDim, kFp8>, dim3(static_cast<unsigned>(shape.kv_heads), static_cast<unsigned>(batch.tiles)),
           dim3(kPrefillThreads), kPrefillShared, stream, qkv, shape, kv, batch, log2_scale, attended);
  }
  if (batch.decodes > 0) {
    float* peaks = scratch + static_cast<std::size_t>(batch.works) * static_cast<std::size_t>(shape.heads) * kDim;
    const int ahead = batch.ahead.count > 0 ? (kAheadBlocks + shape.kv_heads - 1) / shape.kv_heads : 0;
    launch(decode_kernel<kDim, kFp8>,
           dim3(static_cast<unsigned>(batch.works + ahead), static_cast<unsigned>(shape.kv_heads)),
           dim3(kDecodeWarps * 32), kDecodeShared, stream, qkv, shape, kv, batch, log2_scale,
           rope != nullptr ? *rope : RopeArgs{}, scratch, peaks);
    launch(fold_kernel<kDim>, dim3(static_cast<unsigned>(shape.heads), static_cast<unsigned>(batch.decodes)),
           dim3(kDim / 4), 0, stream, shape, batch, static_cast<const float*>(scratch),
           static_cast<const float*>(peaks), attended);
  }
}

}  // namespace

int prefill_tile_tokens(const AttentionShape& shape) {
  return kPrefillGroups * 64 / shape.group();
}

bool attention_rotates(const AttentionShape& shape, const RopeArgs& rope) {
  return rope.q_norm == nullptr && rope.k_norm == nullptr && rope.rope_dims == shape.head_dim;
}

std::size_t attention_scratch(const AttentionShape& shape, int works) {
  return static_cast<std::size_t>(works) * static_cast<std::size_t>(shape.heads) *
         static_cast<std::size_t>(shape.head_dim + 2);
}

void attention(const Bf16* qkv, const AttentionShape& shape, const KvLayer& kv, const AttentionBatch& batch,
               float scale, const RopeArgs* rope, float* scratch, Bf16* attended, cudaStream_t stream) {
  const auto chosen =
      shape.head_dim == 128 ? (kv.fp8 ? run<128, true> : run<128, false>) : (kv.fp8 ? run<64, true> : run<64, false>);
  chosen(qkv, shape, kv, batch, scale, rope, scratch, attended, stream);
}

}  // namespace hp::cuda
