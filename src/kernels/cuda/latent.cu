// Latent attention on the warp-level tensor instruction. A thread block has 16 heads of one or two tokens: four warps a
// token, each with a quarter of a unit's keys for the scores and a quarter of the latent's dimensions for the result.
//
// Batch invariance: units of 64 keys in order within ranges of 128 or 512, ranges folded in order; a decode computes
// its ranges side by side, a prefill one after the other, by the same instructions. Latents of e4m3 are expanded into
// the same tiles by four warps more.
#include "kernels/cuda/latent.h"

#include "kernels/cuda/ahead.cuh"
#include "kernels/cuda/fold.cuh"
#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/kv_place.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kWarps = 4;  // of a token
inline constexpr int kUnitBlocks = kLatentUnit / kBlockTokens;
inline constexpr int kBlockElements = kBlockTokens * kLatentKey;
inline constexpr int kQueryStride = kLatentKey + 8, kPowerStride = kLatentUnit + 8;
inline constexpr int kShare = kLatentDims / kWarps;  // dimensions of the result that a warp has
static_assert(kUnitBlocks == kWarps);

template <int kTokens, bool kFp8>
struct Memory {
  static constexpr int kThreads = kTokens * kWarps * 32;  // that compute
  Bf16 unit[2][kUnitBlocks * kBlockElements];
  alignas(16) std::uint8_t bytes[kUnitBlocks][kFp8 ? kLatentFp8Block : 16];  // of the blocks that are expanded next
  Bf16 query[kTokens][kLatentHeads * kQueryStride];
  Bf16 power[kTokens][kLatentHeads * kPowerStride];
  float peak[kTokens][kWarps][kLatentHeads], sum[kTokens][kWarps][kLatentHeads];
  std::uint64_t full[2], empty[2], here[kUnitBlocks];
  /// The computing threads meet.
  __device__ __forceinline__ static void meet() { named_barrier<1, kThreads>(); }
};
/// Threads of a thread block: those that compute, and the warps that expand.
template <int kTokens, bool kFp8>
inline constexpr int kThreadsOf = (kTokens + (kFp8 ? 1 : 0)) * kWarps * 32;

/// A token's view of its sequence.
struct Span {
  const int* table;
  int length;    // keys that may be loaded
  int position;  // of this thread's token: the last key that it sees
};

__device__ __forceinline__ Bf16* element(Bf16* unit, int key, int group) {
  return unit + key / kBlockTokens * kBlockElements + (group / 8 * kBlockTokens + key % kBlockTokens) * kColumnBlock +
         (((group % 8) ^ (key & 7)) * 8);
}

/// Lanes of one warp start copying a unit's blocks; values of blocks that are not there become zeros first.
template <int kTokens>
__device__ __forceinline__ void copy_unit(Memory<kTokens, false>& memory, const Bf16* cache, const Span& span, int unit,
                                          int stage) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int blocks = min(kUnitBlocks, (span.length - unit * kLatentUnit + kBlockTokens - 1) / kBlockTokens);
  if (lane == 0) barrier_expect(&memory.full[stage], static_cast<std::uint32_t>(blocks) * kBlockElements * 2U);
  __syncwarp();
  if (lane < blocks) {
    const auto block = static_cast<std::size_t>(span.table[unit * kUnitBlocks + lane]);
    copy_bytes(memory.unit[stage] + lane * kBlockElements, cache + block * kBlockElements, kBlockElements * 2U,
               &memory.full[stage]);
  }
  for (int i = blocks * kBlockElements / 8 + lane; i < kUnitBlocks * kBlockElements / 8; i += 32) {
    reinterpret_cast<uint4*>(memory.unit[stage])[i] = make_uint4(0, 0, 0, 0);
  }
}

/// A warp that expands one block of every unit [first, end): copies it as it is, a unit ahead, and puts it into the
/// tile. `started`: what the first unit reads does not depend on the kernel before.
template <int kTokens>
__device__ __forceinline__ void expand_blocks(Memory<kTokens, true>& memory, const std::uint8_t* cache,
                                              const Span& span, int first, int end, bool started) {
  const int lane = static_cast<int>(threadIdx.x) % 32, own = static_cast<int>(threadIdx.x) / 32 % kUnitBlocks;
  std::uint8_t* bytes = memory.bytes[own];
  const auto present = [&](int unit) { return (unit * kUnitBlocks + own) * kBlockTokens < span.length; };
  const auto copy = [&](int unit) {
    if (lane != 0 || !present(unit)) return;
    const auto block = static_cast<std::size_t>(span.table[unit * kUnitBlocks + own]);
    barrier_expect(&memory.here[own], kLatentFp8Block);
    copy_bytes(bytes, cache + block * kLatentFp8Block, kLatentFp8Block, &memory.here[own]);
  };
  if (!started) wait_for_previous();
  copy(first);
  if (started) wait_for_previous();
  constexpr unsigned kLatentChunks = kBlockTokens * kLatentDims / kChunkDims;
  for (int unit = first; unit < end; ++unit) {
    const int turn = unit - first, stage = turn % 2;
    if (turn >= 2) barrier_wait(&memory.empty[stage], static_cast<std::uint32_t>(turn / 2 - 1) & 1U);
    Bf16* tile = memory.unit[stage] + own * kBlockElements;
    if (present(unit)) {
      barrier_wait(&memory.here[own], static_cast<std::uint32_t>(turn) & 1U);
#pragma unroll 2
      for (unsigned at = threadIdx.x % 32; at < kLatentChunks; at += 32) {
        expand_chunk(load_shared_16(bytes + at * kChunkDims), at,
                     [&](int token, int group) { return element(tile, token, group); });
      }
      const std::uint8_t* rope = bytes + kBlockTokens * kLatentDims;
#pragma unroll
      for (int at = lane; at < kBlockTokens * kLatentRope / 8; at += 32)
        store_shared_16(tile + kBlockTokens * kLatentDims + at * 8, load_shared_16(rope + at * kChunkDims));
    } else {
      for (int at = lane; at < kBlockElements / 8; at += 32)
        reinterpret_cast<uint4*>(tile)[at] = make_uint4(0, 0, 0, 0);
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(&memory.full[stage]);
    if (unit + 1 < end) copy(unit + 1);
  }
}

__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(0xFFFFFFFFU, v, 1));
  return fmaxf(v, __shfl_xor_sync(0xFFFFFFFFU, v, 2));
}
__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(0xFFFFFFFFU, v, 1);
  return v + __shfl_xor_sync(0xFFFFFFFFU, v, 2);
}

/// A range's result of one warp: 16 heads × its share of the dimensions.
struct Range {
  float out[kShare / 8][4];
  Running row[2];
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& o : out) o[0] = o[1] = o[2] = o[3] = 0.0F;
    row[0] = row[1] = {-INFINITY, 0.0F};
  }
};

/// Adds one unit to the range. All threads that compute call it together.
template <int kTokens, bool kFp8>
__device__ __forceinline__ void add_unit(Memory<kTokens, kFp8>& memory, Range& range, int token, int warp, int stage,
                                         int first_key, int position, float scale) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Bf16* unit = memory.unit[stage];
  float s[2][4] = {};
#pragma unroll 4
  for (int step = 0; step < kLatentKey / 16; ++step) {
    std::uint32_t q[4], k[4];
    load_matrices(q, memory.query[token] + (lane % 16) * kQueryStride + step * 16 + (lane / 16) * 8);
    load_matrices(k, element(unit, warp * 16 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
    mma_16x8x16(s[0], q, k[0], k[1]);
    mma_16x8x16(s[1], q, k[2], k[3]);
  }
  float peak[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int key = first_key + warp * 16 + i / 4 * 8 + (lane % 4) * 2 + (i & 1);
    float& x = s[i / 4][i % 4];
    x = key > position ? -INFINITY : __fmul_rn(x, scale);
    peak[(i / 2) & 1] = fmaxf(peak[(i / 2) & 1], x);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    peak[half] = quad_max(peak[half]);
    if (lane % 4 == 0) memory.peak[token][warp][lane / 4 + 8 * half] = peak[half];
  }
  memory.meet();
  float keep[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
    float top = range.row[half].peak;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, memory.peak[token][w][row]);
    const float shift = top == -INFINITY ? 0.0F : top;
    keep[half] = exp2_fast(range.row[half].peak - shift);
    range.row[half].peak = top;
    float total = 0.0F;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float a = exp2_fast(s[n][2 * half] - shift), b = exp2_fast(s[n][2 * half + 1] - shift);
      total += a;
      total += b;
      *reinterpret_cast<std::uint32_t*>(memory.power[token] + row * kPowerStride + warp * 16 + n * 8 + (lane % 4) * 2) =
          pack_bf16(a, b);
    }
    total = quad_sum(total);
    if (lane % 4 == 0) memory.sum[token][warp][row] = total;
  }
  memory.meet();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += memory.sum[token][w][lane / 4 + 8 * half];
    range.row[half].sum = __fmaf_rn(range.row[half].sum, keep[half], total);
  }
#pragma unroll
  for (auto& o : range.out) {
    o[0] = __fmul_rn(o[0], keep[0]), o[1] = __fmul_rn(o[1], keep[0]);
    o[2] = __fmul_rn(o[2], keep[1]), o[3] = __fmul_rn(o[3], keep[1]);
  }
#pragma unroll
  for (int step = 0; step < kLatentUnit / 16; ++step) {
    std::uint32_t p[4];
    load_matrices(p, memory.power[token] + (lane % 16) * kPowerStride + step * 16 + (lane / 16) * 8);
#pragma unroll
    for (int pair = 0; pair < kShare / 16; ++pair) {
      std::uint32_t v[4];
      load_matrices_transposed(v, element(unit, step * 16 + lane % 16, (warp * kShare + pair * 16) / 8 + lane / 16));
      mma_16x8x16(range.out[2 * pair], p, v[0], v[1]);
      mma_16x8x16(range.out[2 * pair + 1], p, v[2], v[3]);
    }
  }
}

/// Queries of one token and 16 heads into shared memory.
template <int kTokens, bool kFp8>
__device__ __forceinline__ void load_queries(Memory<kTokens, kFp8>& memory, const Bf16* queries,
                                             const LatentShape& shape, int row, int head0, int token, bool valid) {
  const auto* in =
      reinterpret_cast<const uint4*>(queries + (static_cast<std::size_t>(row) * static_cast<std::size_t>(shape.heads) +
                                                static_cast<std::size_t>(head0)) *
                                                   kLatentKey);
  for (int i = static_cast<int>(threadIdx.x) % (kWarps * 32); i < kLatentHeads * kLatentKey / 8; i += kWarps * 32) {
    store_shared_16(memory.query[token] + i / (kLatentKey / 8) * kQueryStride + i % (kLatentKey / 8) * 8,
                    valid ? in[i] : make_uint4(0, 0, 0, 0));
  }
}

/// Units [first, end) of the sequence into ranges; `done` takes each range's result. `started`: the first unit is being
/// copied already.
template <int kTokens, bool kFp8, typename Done>
__device__ __forceinline__ void run_units(Memory<kTokens, kFp8>& memory, const KvLayer& kv, const Span& span, int token,
                                          int first, int end, int range_units, float scale, bool started, Done&& done) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % kWarps;
  const auto copy = [&](int unit, int stage) {
    if constexpr (!kFp8) {
      if (threadIdx.x < 32) copy_unit(memory, static_cast<const Bf16*>(kv.k), span, unit, stage);
    }
  };
  Range range;
  range.clear();
  if (!started) copy(first, 0);
  for (int unit = first; unit < end; ++unit) {
    const int turn = unit - first, stage = turn % 2;
    if (unit + 1 < end) copy(unit + 1, stage ^ 1);
    barrier_wait(&memory.full[stage], static_cast<std::uint32_t>(turn / 2) & 1U);
    if (turn == 0) memory.meet();  // the queries, and the zeros of the first unit
    add_unit(memory, range, token, warp, stage, unit * kLatentUnit, span.position, scale);
    if ((unit + 1) % range_units == 0 || unit + 1 == end) {
      done(range);
      range.clear();
    }
    if constexpr (kFp8) {
      __syncwarp();
      if (threadIdx.x % 32 == 0) barrier_arrive(&memory.empty[stage]);
    } else {
      memory.meet();  // the stage is free, the next unit's zeros are written
    }
  }
}

template <int kTokens, bool kFp8>
__device__ __forceinline__ Memory<kTokens, kFp8>& open_memory(std::uint8_t* raw) {
  auto& memory = *reinterpret_cast<Memory<kTokens, kFp8>*>(raw + (128U - (shared_address(raw) & 127U)) % 128U);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < 2; ++stage) {
      barrier_init(&memory.full[stage], kFp8 ? kUnitBlocks : 1);
      barrier_init(&memory.empty[stage], kTokens * kWarps);
    }
    for (auto& here : memory.here) barrier_init(&here, 1);
    barrier_init_fence();
  }
  __syncthreads();
  return memory;
}

/// One range of a decode: {work, 16 heads}.
template <bool kFp8>
__global__ void __launch_bounds__(kThreadsOf<1, kFp8>)
    decode_kernel(const Bf16* queries, LatentShape shape, KvLayer kv, AttentionBatch batch, float scale, float* parts,
                  float* peaks) {
  launch_dependents();
  const int2 work = batch.work[blockIdx.x];
  if (work.x < 0) return;
  extern __shared__ std::uint8_t raw[];
  auto& memory = open_memory<1, kFp8>(raw);
  const int length = batch.decode_length[work.x], row = batch.decode_row[work.x],
            head0 = static_cast<int>(blockIdx.y) * kLatentHeads;
  const Span span{batch.tables + static_cast<std::size_t>(batch.decode_sequence[work.x]) *
                                     static_cast<std::size_t>(batch.table_stride),
                  length, length - 1};
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int range_units = shape.range() / kLatentUnit, first = work.y * range_units,
            end = min(first + range_units, (length + kLatentUnit - 1) / kLatentUnit);
  // What earlier steps cached does not depend on the kernel before, which stores the token's own key.
  const bool early = (first + 1) * kLatentUnit < length;
  if constexpr (kFp8) {
    if (warp >= kWarps) return expand_blocks(memory, static_cast<const std::uint8_t*>(kv.k), span, first, end, early);
  } else if (early && threadIdx.x < 32) {
    copy_unit(memory, static_cast<const Bf16*>(kv.k), span, first, 0);
  }
  wait_for_previous();
  load_queries(memory, queries, shape, row, head0, 0, true);
  run_units(memory, kv, span, 0, first, end, range_units, scale, early, [&](const Range& range) {
    const std::size_t part =
        static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(shape.heads) + static_cast<std::size_t>(head0);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::size_t at = part + static_cast<std::size_t>(lane / 4 + 8 * half);
      float* to = parts + at * kLatentDims + warp * kShare + (lane % 4) * 2;
#pragma unroll
      for (int n = 0; n < kShare / 8; ++n)
        *reinterpret_cast<float2*>(to + n * 8) = make_float2(range.out[n][2 * half], range.out[n][2 * half + 1]);
      if (warp == 0 && lane % 4 == 0) peaks[2 * at] = range.row[half].peak, peaks[2 * at + 1] = range.row[half].sum;
    }
  });
}

/// Folds a decode's ranges in order: {head, decode}, four elements a thread.
__global__ void __launch_bounds__(kLatentDims / 4)
    fold_kernel(LatentShape shape, AttentionBatch batch, const float* parts, const float* peaks, Bf16* attended) {
  launch_dependents();
  const int entry = static_cast<int>(blockIdx.y), length = batch.decode_length[entry], to = batch.decode_row[entry];
  if (length == 0) return;
  const std::size_t first =
      static_cast<std::size_t>(batch.decode_first[entry]) * static_cast<std::size_t>(shape.heads) + blockIdx.x;
  const int dim = static_cast<int>(threadIdx.x) * 4;
  wait_for_previous();
  Running row;
  const float4 total =
      fold_parts(parts, peaks, first, (length + shape.range() - 1) / shape.range(), shape.heads, kLatentDims, dim, row);
  *reinterpret_cast<uint2*>(
      attended + (static_cast<std::size_t>(to) * static_cast<std::size_t>(shape.heads) + blockIdx.x) * kLatentDims +
      dim) = folded_bf16(total, row);
}

/// A thread's share of a token's result while ranges are folded in turn.
struct Folded {
  float total[kShare / 8][4] = {};
  Running rows[2] = {{-INFINITY, 0.0F}, {-INFINITY, 0.0F}};
  __device__ __forceinline__ void add_range(const Range& range) {
    float keep[2], add[2];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      fold_factors(rows[half], range.row[half].peak, range.row[half].sum, keep[half], add[half]);
#pragma unroll
    for (int n = 0; n < kShare / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) total[n][i] = fold(total[n][i], keep[i / 2], range.out[n][i], add[i / 2]);
    }
  }
  /// To attended [t, heads, 512].
  __device__ __forceinline__ void store(Bf16* attended, int row, int heads, int head0) const {
    const int warp = static_cast<int>(threadIdx.x) / 32 % kWarps, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Bf16* out = attended +
                  (static_cast<std::size_t>(row) * static_cast<std::size_t>(heads) +
                   static_cast<std::size_t>(head0 + lane / 4 + 8 * half)) *
                      kLatentDims +
                  warp * kShare + (lane % 4) * 2;
#pragma unroll
      for (int n = 0; n < kShare / 8; ++n) {
        *reinterpret_cast<std::uint32_t*>(out + n * 8) =
            pack_bf16(__fdiv_rn(total[n][2 * half], rows[half].sum), __fdiv_rn(total[n][2 * half + 1], rows[half].sum));
      }
    }
  }
};

/// A whole decode, range after range: {decode, 16 heads}. With many decodes it fills the chip and saves the parts' way
/// through memory.
template <bool kFp8>
__global__ void __launch_bounds__(kThreadsOf<1, kFp8>) whole_kernel(const Bf16* queries, LatentShape shape, KvLayer kv,
                                                                    AttentionBatch batch, float scale, Bf16* attended) {
  launch_dependents();
  const int entry = static_cast<int>(blockIdx.x), length = batch.decode_length[entry];
  if (length == 0) return;
  extern __shared__ std::uint8_t raw[];
  auto& memory = open_memory<1, kFp8>(raw);
  const int row = batch.decode_row[entry], head0 = static_cast<int>(blockIdx.y) * kLatentHeads;
  const Span span{batch.tables + static_cast<std::size_t>(batch.decode_sequence[entry]) *
                                     static_cast<std::size_t>(batch.table_stride),
                  length, length - 1};
  const bool early = kLatentUnit < length;
  const int units = (length + kLatentUnit - 1) / kLatentUnit;
  if constexpr (kFp8) {
    if (threadIdx.x >= kWarps * 32)
      return expand_blocks(memory, static_cast<const std::uint8_t*>(kv.k), span, 0, units, early);
  } else if (early && threadIdx.x < 32) {
    copy_unit(memory, static_cast<const Bf16*>(kv.k), span, 0, 0);
  }
  wait_for_previous();
  load_queries(memory, queries, shape, row, head0, 0, true);
  Folded folded;
  run_units(memory, kv, span, 0, 0, units, shape.range() / kLatentUnit, scale, early,
            [&](const Range& range) { folded.add_range(range); });
  folded.store(attended, row, shape.heads, head0);
}

/// Two tokens of a prefill: {16 heads, tile}.
template <bool kFp8>
__global__ void __launch_bounds__(kThreadsOf<kLatentTile, kFp8>, 1)
    prefill_kernel(const Bf16* queries, LatentShape shape, KvLayer kv, AttentionBatch batch, float scale,
                   Bf16* attended) {
  launch_dependents();
  extern __shared__ std::uint8_t raw[];
  auto& memory = open_memory<kLatentTile, kFp8>(raw);
  const int4 tile = batch.tile[gridDim.y - 1 - blockIdx.y];
  const int head0 = static_cast<int>(blockIdx.x) * kLatentHeads, token = static_cast<int>(threadIdx.x) / (kWarps * 32);
  const Span span{batch.tables + static_cast<std::size_t>(tile.y) * static_cast<std::size_t>(batch.table_stride),
                  tile.z + tile.w, tile.z + min(token, tile.w - 1)};
  const int units = (span.length + kLatentUnit - 1) / kLatentUnit;
  const auto compute = [&] {
    wait_for_previous();
    load_queries(memory, queries, shape, tile.x + token, head0, token, token < tile.w);
    Folded folded;
    run_units(memory, kv, span, token, 0, units, shape.range() / kLatentUnit, scale, false,
              [&](const Range& range) { folded.add_range(range); });
    if (token < tile.w) folded.store(attended, tile.x + token, shape.heads, head0);
  };
  if constexpr (!kFp8) {
    compute();
  } else if (token == kLatentTile) {
    fewer_registers<40>();
    expand_blocks(memory, static_cast<const std::uint8_t*>(kv.k), span, 0, units, false);
  } else {
    more_registers<232>();
    compute();
  }
}

inline constexpr int kPrepareThreads = 128;

/// A token's latent and rotary keys and queries; the block's threads together.
__device__ __forceinline__ void prepare_token(const LatentRows& rows, const LatentShape& shape,
                                              const LatentPrepare& args, std::size_t row, const KvLayer& kv,
                                              Bf16* queries) {
  const int slot = args.slots[row], position = args.positions[row], thread = static_cast<int>(threadIdx.x);
  const Bf16* in = rows.queries + row * static_cast<std::size_t>(rows.query_stride);
  const Bf16* latent = rows.latent + row * static_cast<std::size_t>(rows.latent_stride);
  const float* cos = args.cos + static_cast<std::size_t>(position) * (kLatentRope / 2);
  const float* sin = args.sin + static_cast<std::size_t>(position) * (kLatentRope / 2);
  std::uint8_t* block = slot < 0 ? nullptr
                                 : static_cast<std::uint8_t*>(kv.k) + static_cast<std::size_t>(slot / kBlockTokens) *
                                                                          (kv.fp8 ? kLatentFp8Block : kLatentBlock);
  __shared__ float part[kPrepareThreads / 32];
  constexpr int kEach = kLatentDims / kPrepareThreads;
  float v[kEach], sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    v[i] = __bfloat162float(latent[thread * kEach + i]);
    sum = __fmaf_rn(v[i], v[i], sum);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, step);
  if (thread % 32 == 0) part[thread / 32] = sum;
  __syncthreads();
  sum = ((part[0] + part[1]) + part[2]) + part[3];
  const float factor = rsqrtf(sum / static_cast<float>(kLatentDims) + args.eps);
  if (block != nullptr) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int dim = thread * kEach + i;
      store_element(block, kv.fp8, 0, slot % kBlockTokens, dim, v[i] * factor * args.kv_norm[dim]);
    }
  }
  constexpr int kPairs = kLatentRope / 2;
  const std::size_t rope_at =
      static_cast<std::size_t>(kBlockTokens * kLatentDims) * (kv.fp8 ? sizeof(Fp8) : sizeof(Bf16));
  for (int i = thread; i < (shape.heads + 1) * kPairs; i += kPrepareThreads) {
    const int head = i / kPairs, pair = i % kPairs;
    const Bf16* from = head < shape.heads ? in + head * shape.query() + shape.nope : latent + kLatentDims;
    const float2 r =
        rotated(__bfloat162float(from[2 * pair]), __bfloat162float(from[2 * pair + 1]), cos[pair], sin[pair]);
    const __nv_bfloat162 out = __floats2bfloat162_rn(r.x, r.y);
    if (head < shape.heads) {
      *reinterpret_cast<__nv_bfloat162*>(
          queries + (row * static_cast<std::size_t>(shape.heads) + static_cast<std::size_t>(head)) * kLatentKey +
          kLatentDims + 2 * pair) = out;
    } else if (block != nullptr) {
      Bf16* key = reinterpret_cast<Bf16*>(block + rope_at);
      *reinterpret_cast<__nv_bfloat162*>(key + place_in_block(slot % kBlockTokens, 2 * pair)) = out;
    }
  }
}

__global__ void __launch_bounds__(kPrepareThreads)
    prepare_kernel(LatentRows rows, LatentShape shape, LatentPrepare args, KvLayer kv, Bf16* queries) {
  launch_dependents();
  wait_for_previous();
  prepare_token(rows, shape, args, blockIdx.x, kv, queries);
}

// Few tokens: the weights come into shared memory before the kernel before has finished.
// --------------------------------

/// Rows of `columns` bf16 (a multiple of 8) into shared memory, `stride` apart; complete after copies_wait.
__device__ __forceinline__ void copy_rows(Bf16* out, int stride, const Bf16* in, int rows, int columns) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * columns / 8; i += static_cast<int>(blockDim.x)) {
    const int row = i / (columns / 8), column = i % (columns / 8) * 8;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(out + row * stride + column)),
                 "l"(in + static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) + column)
                 : "memory");
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
}
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
}

inline constexpr int kFewColumns = 128;          // latent dimensions of a block of queries_kernel
inline constexpr int kMostNope = 128, kPad = 8;  // elements; rows then begin in other banks

/// {latent dimensions by 128, or the tokens' prepare, or (rest) weights ahead; head}.
__global__ void __launch_bounds__(128) queries_kernel(LatentRows rows, LatentShape shape, LatentPrepare args,
                                                      const Bf16* k_b, int t, Ahead ahead, KvLayer kv, Bf16* queries) {
  launch_dependents();
  extern __shared__ std::uint8_t raw[];
  Bf16* weights = reinterpret_cast<Bf16*>(raw);
  const int head = static_cast<int>(blockIdx.y), part = static_cast<int>(blockIdx.x);
  constexpr int kParts = kLatentDims / kFewColumns;
  if (part > kParts) {
    wait_for_previous();
    const int blocks = static_cast<int>(gridDim.x) - kParts - 1;
    bring_ahead(ahead, (part - kParts - 1) + head * blocks, blocks * shape.heads);
    return;
  }
  if (part == kParts) {
    wait_for_previous();
    for (int token = head; token < t; token += shape.heads)
      prepare_token(rows, shape, args, static_cast<std::size_t>(token), kv, queries);
    return;
  }
  const int stride = shape.nope + kPad;
  copy_rows(
      weights, stride,
      k_b + static_cast<std::size_t>(head * kLatentDims + part * kFewColumns) * static_cast<std::size_t>(shape.nope),
      kFewColumns, shape.nope);
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::uint32_t a[kMostNope / 16][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = min(lane / 4 + 8 * half, t - 1);
    const Bf16* in = rows.queries + static_cast<std::size_t>(token) * static_cast<std::size_t>(rows.query_stride) +
                     head * shape.query() + (lane % 4) * 2;
#pragma unroll
    for (int step = 0; step < kMostNope / 16; ++step) {
      if (step * 16 >= shape.nope) break;
      a[step][half] = *reinterpret_cast<const std::uint32_t*>(in + step * 16);
      a[step][2 + half] = *reinterpret_cast<const std::uint32_t*>(in + step * 16 + 8);
    }
  }
  copies_wait();
  __syncthreads();
  const int column0 = warp * 32;
  float d[4][4] = {};
#pragma unroll
  for (int step = 0; step < kMostNope / 16; ++step) {
    if (step * 16 >= shape.nope) break;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const Bf16* row = weights + (column0 + 8 * n + lane / 4) * stride + step * 16 + (lane % 4) * 2;
      mma_16x8x16(d[n], a[step], *reinterpret_cast<const std::uint32_t*>(row),
                  *reinterpret_cast<const std::uint32_t*>(row + 8));
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = lane / 4 + 8 * half;
    if (token >= t) continue;
    Bf16* out =
        queries +
        (static_cast<std::size_t>(token) * static_cast<std::size_t>(shape.heads) + static_cast<std::size_t>(head)) *
            kLatentKey +
        part * kFewColumns + column0 + (lane % 4) * 2;
#pragma unroll
    for (int n = 0; n < 4; ++n)
      *reinterpret_cast<std::uint32_t*>(out + n * 8) = pack_bf16(d[n][2 * half], d[n][2 * half + 1]);
  }
}

inline constexpr int kValueColumns = 32;  // of a block of values_kernel: 8 a warp
inline constexpr int kValueStride = kLatentDims + kPad;

/// {values by 32, head}: every block folds its head's ranges.
__global__ void __launch_bounds__(128) values_kernel(LatentShape shape, AttentionBatch batch, const float* parts,
                                                     const float* peaks, const Bf16* v_b, Bf16* out) {
  launch_dependents();
  extern __shared__ std::uint8_t raw[];
  Bf16* weights = reinterpret_cast<Bf16*>(raw);
  Bf16* folded = weights + kValueColumns * kValueStride;  // [16, 512]
  const int head = static_cast<int>(blockIdx.y), column0 = static_cast<int>(blockIdx.x) * kValueColumns;
  copy_rows(weights, kValueStride, v_b + static_cast<std::size_t>(head * shape.v_dim + column0) * kLatentDims,
            kValueColumns, kLatentDims);
  wait_for_previous();
  const int thread = static_cast<int>(threadIdx.x), dim = thread * 4;
  for (int entry = 0; entry < kLatentFew; ++entry) {
    const int length = entry < batch.decodes ? batch.decode_length[entry] : 0;
    uint2 bits = make_uint2(0, 0);
    if (length > 0) {
      const std::size_t first =
          static_cast<std::size_t>(batch.decode_first[entry]) * static_cast<std::size_t>(shape.heads) +
          static_cast<std::size_t>(head);
      Running row;
      const float4 total = fold_parts(parts, peaks, first, (length + shape.range() - 1) / shape.range(), shape.heads,
                                      kLatentDims, dim, row);
      bits = folded_bf16(total, row);
    }
    *reinterpret_cast<uint2*>(folded + entry * kValueStride + dim) = bits;
  }
  copies_wait();
  __syncthreads();
  const int lane = thread % 32, warp = thread / 32;
  float d[4] = {};
#pragma unroll 8
  for (int step = 0; step < kLatentDims / 16; ++step) {
    std::uint32_t a[4];
    load_matrices(a, folded + (lane % 16) * kValueStride + step * 16 + (lane / 16) * 8);
    const Bf16* row = weights + (8 * warp + lane / 4) * kValueStride + step * 16 + (lane % 4) * 2;
    mma_16x8x16(d, a, *reinterpret_cast<const std::uint32_t*>(row), *reinterpret_cast<const std::uint32_t*>(row + 8));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int entry = lane / 4 + 8 * half;
    if (entry >= batch.decodes || batch.decode_length[entry] == 0) continue;
    Bf16* to = out +
               static_cast<std::size_t>(batch.decode_row[entry]) * static_cast<std::size_t>(shape.heads * shape.v_dim) +
               head * shape.v_dim + column0 + 8 * warp + (lane % 4) * 2;
    *reinterpret_cast<std::uint32_t*>(to) = pack_bf16(d[2 * half], d[2 * half + 1]);
  }
}

/// One warp: 16 tokens × 32 outputs of one head, straight from memory (both operands are small and stay in L2).
__global__ void __launch_bounds__(128) head_product_kernel(HeadProduct p, int t) {
  launch_dependents();
  wait_for_previous();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int head = static_cast<int>(blockIdx.y), token0 = static_cast<int>(blockIdx.x) * 16;
  const int column0 = (static_cast<int>(blockIdx.z) * 4 + warp) * 32;
  if (column0 >= p.rows) return;
  const Bf16* in[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = min(token0 + lane / 4 + 8 * half, t - 1);
    in[half] = p.in + static_cast<std::size_t>(token) * static_cast<std::size_t>(p.in_stride) +
               static_cast<std::size_t>(head * p.in_head + (lane % 4) * 2);
  }
  const Bf16* w = p.weight +
                  static_cast<std::size_t>(head * p.rows + column0 + lane / 4) * static_cast<std::size_t>(p.k) +
                  static_cast<std::size_t>((lane % 4) * 2);
  float d[4][4] = {};
#pragma unroll 4
  for (int k = 0; k < p.k; k += 16) {
    std::uint32_t a[4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      a[half] = *reinterpret_cast<const std::uint32_t*>(in[half] + k);
      a[2 + half] = *reinterpret_cast<const std::uint32_t*>(in[half] + k + 8);
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const Bf16* row = w + static_cast<std::size_t>(8 * n) * static_cast<std::size_t>(p.k) + k;
      mma_16x8x16(d[n], a, __ldg(reinterpret_cast<const std::uint32_t*>(row)),
                  __ldg(reinterpret_cast<const std::uint32_t*>(row + 8)));
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = token0 + lane / 4 + 8 * half;
    if (token >= t) continue;
    Bf16* out = p.out + static_cast<std::size_t>(token) * static_cast<std::size_t>(p.out_stride) +
                static_cast<std::size_t>(head * p.out_head + column0 + (lane % 4) * 2);
#pragma unroll
    for (int n = 0; n < 4; ++n)
      *reinterpret_cast<std::uint32_t*>(out + n * 8) = pack_bf16(d[n][2 * half], d[n][2 * half + 1]);
  }
}

}  // namespace

void latent_prepare(const LatentRows& rows, const LatentShape& shape, const LatentPrepare& args, int t,
                    const KvLayer& kv, Bf16* queries, cudaStream_t stream) {
  launch(prepare_kernel, dim3(static_cast<unsigned>(t)), dim3(kPrepareThreads), 0, stream, rows, shape, args, kv,
         queries);
}

void head_product(const HeadProduct& product, int t, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((t + 15) / 16), static_cast<unsigned>(product.heads),
                  static_cast<unsigned>((product.rows + 127) / 128));
  launch(head_product_kernel, grid, dim3(128), 0, stream, product, t);
}

bool latent_queries_fit(const LatentShape& shape) {
  return shape.nope <= kMostNope;
}

void latent_queries(const LatentRows& rows, const LatentShape& shape, const LatentPrepare& args, const Bf16* k_b, int t,
                    const Ahead& ahead, const KvLayer& kv, Bf16* queries, cudaStream_t stream) {
  const int blocks = ahead.count > 0 ? (kAheadBlocks + shape.heads - 1) / shape.heads : 0;
  const std::size_t shared = static_cast<std::size_t>(kFewColumns * (shape.nope + kPad)) * sizeof(Bf16);
  launch(queries_kernel,
         dim3(static_cast<unsigned>(kLatentDims / kFewColumns + 1 + blocks), static_cast<unsigned>(shape.heads)),
         dim3(128), shared, stream, rows, shape, args, k_b, t, ahead, kv, queries);
}

void latent_values(const LatentShape& shape, const AttentionBatch& batch, const float* scratch, const Bf16* v_b,
                   Bf16* out, cudaStream_t stream) {
  constexpr int kShared = (kValueColumns + kLatentFew) * kValueStride * static_cast<int>(sizeof(Bf16));
  static const cudaError_t ready = cudaFuncSetAttribute(reinterpret_cast<const void*>(values_kernel),
                                                        cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  (void)ready;
  const float* peaks =
      scratch + static_cast<std::size_t>(batch.works) * static_cast<std::size_t>(shape.heads) * kLatentDims;
  launch(values_kernel, dim3(static_cast<unsigned>(shape.v_dim / kValueColumns), static_cast<unsigned>(shape.heads)),
         dim3(128), kShared, stream, shape, batch, scratch, peaks, v_b, out);
}

/// Whether decodes run whole: enough of them to fill the chip, and none so long that the others wait for it. Batches of
/// 256 with 256 keys each lost 7 % of V2-Lite's tokens/s to parts in memory (bf16, one H200: 20,565 without, 19,195).
bool latent_decodes_whole(const AttentionBatch& batch) {
  constexpr int kManyDecodes = 96, kMostKeys = 2048;
  return batch.whole && batch.decodes >= kManyDecodes && batch.table_stride * kBlockTokens <= kMostKeys;
}

std::size_t latent_scratch(const LatentShape& shape, int works) {
  return static_cast<std::size_t>(works) * static_cast<std::size_t>(shape.heads) * (kLatentDims + 2);
}

namespace {

template <bool kFp8>
void run(const Bf16* queries, const LatentShape& shape, const KvLayer& kv, const AttentionBatch& batch, float scale,
         float* scratch, Bf16* attended, cudaStream_t stream) {
  constexpr int kDecodeShared = static_cast<int>(sizeof(Memory<1, kFp8>)) + 128,
                kPrefillShared = static_cast<int>(sizeof(Memory<kLatentTile, kFp8>)) + 128;
  static_assert(kPrefillShared <= 227 * 1024);
  constexpr dim3 kDecodeThreads(kThreadsOf<1, kFp8>), kPrefillThreads(kThreadsOf<kLatentTile, kFp8>);
  static const int ready = [] {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(decode_kernel<kFp8>),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, kDecodeShared);
    cudaFuncSetAttribute(reinterpret_cast<const void*>(whole_kernel<kFp8>), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         kDecodeShared);
    cudaFuncSetAttribute(reinterpret_cast<const void*>(prefill_kernel<kFp8>),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, kPrefillShared);
    return 0;
  }();
  (void)ready;
  const float log2_scale = scale * 1.4426950408889634F;
  const auto groups = static_cast<unsigned>(shape.heads / kLatentHeads);
  if (batch.tiles > 0) {
    launch(prefill_kernel<kFp8>, dim3(groups, static_cast<unsigned>(batch.tiles)), kPrefillThreads, kPrefillShared,
           stream, queries, shape, kv, batch, log2_scale, attended);
  }
  if (batch.decodes > 0 && attended != nullptr && latent_decodes_whole(batch)) {
    launch(whole_kernel<kFp8>, dim3(static_cast<unsigned>(batch.decodes), groups), kDecodeThreads, kDecodeShared,
           stream, queries, shape, kv, batch, log2_scale, attended);
  } else if (batch.decodes > 0) {
    float* peaks =
        scratch + static_cast<std::size_t>(batch.works) * static_cast<std::size_t>(shape.heads) * kLatentDims;
    launch(decode_kernel<kFp8>, dim3(static_cast<unsigned>(batch.works), groups), kDecodeThreads, kDecodeShared, stream,
           queries, shape, kv, batch, log2_scale, scratch, peaks);
    if (attended == nullptr) return;
    launch(fold_kernel, dim3(static_cast<unsigned>(shape.heads), static_cast<unsigned>(batch.decodes)),
           dim3(kLatentDims / 4), 0, stream, shape, batch, static_cast<const float*>(scratch),
           static_cast<const float*>(peaks), attended);
  }
}

}  // namespace

void latent_attention(const Bf16* queries, const LatentShape& shape, const KvLayer& kv, const AttentionBatch& batch,
                      float scale, float* scratch, Bf16* attended, cudaStream_t stream) {
  (kv.fp8 ? run<true> : run<false>)(queries, shape, kv, batch, scale, scratch, attended, stream);
}

}  // namespace hp::cuda
