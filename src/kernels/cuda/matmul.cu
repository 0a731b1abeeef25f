// Products out[t, n] = x[t, :] · w[n, :] on Hopper's tensor cores. The weight is the instruction's 64-row side and
// tokens are its columns, so that 8 tokens cost no more than they should. Warpgroups multiply; one warp feeds shared
// memory through the copy engine, the weight's first tiles before the previous kernel has finished.
//
// Batch invariance: an element is the sum, in order, of four parts of K, each one accumulator that runs over its steps
// in order (fp8: blocks of 128, scaled and added in order). With few tokens four warpgroups compute the parts side by
// side, with many one computes them one after the other: the same numbers, the same additions. Way::chain leaves this
// rule: without parts bf16 has registers for twice the tile. (fp8 gains nothing: a step's products while the step
// before is scaled, in the same registers, were slower.)
//
// With one or two tokens a product can make its own input (RowSource): every thread block normalizes or quantizes the
// rows into shared memory, which costs less than a kernel before it. The arithmetic is row_math.cuh's either way.
//
// A matrix with too few row tiles to fill the chip spreads them: a cluster of two thread blocks shares a tile, each
// with half of K, and the first one's shared memory takes the other one's sums. The order of the additions stays.
#include <cudaTypedefs.h>

#include <algorithm>

#include "kernels/cuda/choose.cuh"
#include "kernels/cuda/int_matmul.h"
#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/product_tiles.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_math.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kRowBytes = 128;  // of a tile in shared memory: 64 bf16 or 128 fp8 along K

/// Where a product's rows come from.
enum class Source {
  copied,     ///< operands in memory, through the copy engine
  normed,     ///< f32 rows, normalized here
  quantized,  ///< bf16 rows, quantized here
};

struct Params : ProductPlace {
  const float* scale;
  int k, k_blocks;
  int scale_tiles;  ///< 64-row tiles of the stored matrix
  RowSource source;
};

/// kColumns: tokens of one warpgroup; kInput: bytes of rows that the product makes itself and keeps, 0 for none;
/// kCluster: thread blocks that share the parts of a tile.
template <Way kWay, int kColumns, int kInput = 0, int kCluster = 1>
struct Shape {
  static constexpr int kGroups = kWay == Way::parts ? kParts / kCluster : 2;  // that multiply
  static constexpr int kWorkers = kWay == Way::parts ? kParts * 128 : 256, kThreads = kWorkers + 128;
  static constexpr int kTileRows = kWay != Way::parts ? 128 : 64, kBlocksOfTile = kCluster;
  /// The steps of a warpgroup's, and of a turn's, loads: its part, or all of the thread block.
  static __device__ __forceinline__ Steps of_turn(int steps, int turn) {
    if constexpr (kWay != Way::parts) return Steps::own<kCluster>(steps);
    const int part = static_cast<int>(blockIdx.x) % kCluster * kGroups + turn;
    return {part_begin(steps, part), part_begin(steps, part + 1)};
  }
  static constexpr int kWeightBytes = kTileRows * kRowBytes;
  static constexpr int kInputBytes = kInput, kTokenBytes = kInput > 0 ? 0 : kColumns *kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  static constexpr int kMemory = 226 * 1024;  // stages and result tile
  // The result tile: [parts][tokens][rows], so many tokens at a time.
  static constexpr int kSumStride = kTileRows + 4;
  static constexpr int kSumTokens = kWay == Way::parts               ? (kColumns < 16 ? kColumns : 16)
                                    : kColumns > 128 || kCluster > 1 ? 32
                                                                     : 64;
  static constexpr int kSumParts = kWay == Way::parts ? kParts : kCluster > 1 ? 3 : 1;
  static constexpr int kSumBytes = kSumParts * kSumTokens * kSumStride * 4;
  // Loads take turns over the parts; a stage always serves the same part, which thus sees each of its phases.
  static constexpr int kTurns = kWay == Way::parts ? kGroups : 1;
  static constexpr int kStages = (kMemory - kInput - kSumBytes - 2048) / kStageBytes / kTurns * kTurns;
  static constexpr std::size_t kShared = static_cast<std::size_t>(kStages) * kStageBytes + kInput + kSumBytes + 1024 +
                                         2 * 8 * kStages + (kInput > 0 ? 64 : 0);
  // Few tokens: few registers, so that the next kernel fits beside this one.
  static constexpr int kBlocks = kWay == Way::parts && kColumns <= 16 && kInput == 0 ? 2 : 1;
  static_assert(kCluster == 1 || kWay == Way::rows || (kWay == Way::parts && kSumTokens == kColumns));
};

/// The loads of one turn, in order: the steps of its part of every tile.
template <typename S, int kColumns>
struct Cursor {
  Tiles tiles;
  int begin, end, step;
  __device__ __forceinline__ Cursor(const Params& p, const Groups& groups, Steps steps)
      : tiles(p, groups, S::kTileRows, kColumns, S::kBlocksOfTile), begin(steps.begin), end(steps.end), step(begin) {}
  __device__ __forceinline__ bool more() const { return tiles.more(); }
  __device__ __forceinline__ void advance() {
    if (++step == end) step = begin, tiles.advance();
  }
};

/// One thread copies the boxes of one turn into its stages.
template <typename S, int kColumns, int kStepElements>
__device__ __forceinline__ void feed(const CUtensorMap* weight, const CUtensorMap* tokens, const Params& p,
                                     const Groups& groups, std::uint8_t* stages, std::uint64_t* full,
                                     std::uint64_t* empty, Steps steps, int turn) {
  Cursor<S, kColumns> of_weights(p, groups, steps), of_tokens(p, groups, steps);
  const auto load_weights = [&](int stage) {
    barrier_expect(&full[stage], S::kStageBytes);
    copy_box(stages + stage * S::kStageBytes, weight, of_weights.step * kStepElements, of_weights.tiles.weight_row,
             &full[stage], p.weight_policy);
    of_weights.advance();
  };
  const auto load_tokens = [&](int stage) {
    if constexpr (S::kInputBytes > 0) return;
    copy_box(stages + stage * S::kStageBytes + S::kWeightBytes, tokens, of_tokens.step * kStepElements,
             of_tokens.tiles.from, &full[stage], kEvictLast);
    of_tokens.advance();
  };
  // Weights do not depend on the kernel before; tokens do.
  int ahead = turn;
  for (; ahead < S::kStages && of_weights.more(); ahead += S::kTurns) load_weights(ahead);
  if constexpr (S::kInputBytes == 0) wait_for_previous();
  for (int stage = turn; stage < ahead; stage += S::kTurns) load_tokens(stage);
  Ring<S::kStages> ring{turn, 0};
  while (of_weights.more()) {
    barrier_wait(&empty[ring.stage], ring.phase);
    load_weights(ring.stage);
    load_tokens(ring.stage);
    ring.advance(S::kTurns);
  }
}

/// Starts one step's products of one warpgroup.
template <bool kFp8, int kColumns>
__device__ __forceinline__ void multiply_step(float (&sum)[kColumns / 2], std::uint32_t weights_at,
                                              std::uint32_t tokens_at, bool keep) {
  products_begin();
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    const auto offset = static_cast<std::uint32_t>(kk * 32);
    Product<kFp8, kColumns>::run(sum, operand_descriptor(weights_at + offset), operand_descriptor(tokens_at + offset),
                                 keep || kk > 0);
  }
  products_commit();
}

/// sum += part, scaled by row.
template <int kCount>
__device__ __forceinline__ void add_scaled(float (&sum)[kCount], const float (&part)[kCount], float low, float high) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) sum[i] = __fmaf_rn(part[i], (i & 2) != 0 ? high : low, sum[i]);
}

/// One step of one warpgroup: fp8 into a fresh part that is scaled into `sum`, bf16 straight into it.
template <bool kFp8, int kColumns>
__device__ __forceinline__ void multiply(float (&sum)[kColumns / 2], std::uint32_t weights_at, std::uint32_t tokens_at,
                                         bool keep, float low, float high) {
  if constexpr (kFp8) {
    float part[kColumns / 2];
    multiply_step<true, kColumns>(part, weights_at, tokens_at, false);
    products_wait<0>();
    add_scaled(sum, part, low, high);
  } else {
    multiply_step<false, kColumns>(sum, weights_at, tokens_at, keep);
    products_wait<1>();
  }
}

template <bool kFp8, typename S, int kColumns>
struct Consumer {
  const Params& p;
  std::uint32_t stages, input;
  std::uint64_t *full, *empty;
  int input_step;  // the first one of the product's own rows
  int first_row;   // of this warpgroup's 64
  Ring<S::kStages> ring;
  int previous = -1;

  __device__ __forceinline__ void release(int stage) {
    if (threadIdx.x % 32U == 0) barrier_arrive(&empty[stage]);
  }

  /// Of the warpgroup's rows: [2, k_blocks].
  [[nodiscard]] __device__ __forceinline__ const float* scales() const {
    const int tile = min(first_row / 64, p.scale_tiles - 1);
    return p.scale + static_cast<std::size_t>(2 * tile) * static_cast<std::size_t>(p.k_blocks);
  }

  /// Runs over steps of K. The caller has set the ring to the first of its loads.
  __device__ __forceinline__ void run(float (&sum)[kColumns / 2], Steps steps, std::uint32_t weight_offset) {
    if constexpr (kFp8) {
#pragma unroll
      for (float& s : sum) s = 0.0F;
    }
    const float* scale = scales();
#pragma unroll 1
    for (int step = steps.begin; step < steps.end; ++step) {
      float low = 1.0F, high = 1.0F;
      if constexpr (kFp8) low = __ldg(scale + step), high = __ldg(scale + p.k_blocks + step);
      const std::uint32_t at = stages + static_cast<std::uint32_t>(ring.stage * S::kStageBytes);
      barrier_wait(&full[ring.stage], ring.phase);
      const std::uint32_t tokens_at =
          S::kInputBytes > 0 ? input + static_cast<std::uint32_t>((step - input_step) * kColumns * kRowBytes)
                             : at + S::kWeightBytes;
      multiply<kFp8, kColumns>(sum, at + weight_offset, tokens_at, step > steps.begin, low, high);
      if constexpr (kFp8) {
        release(ring.stage);
      } else {
        if (previous >= 0) release(previous);
        previous = ring.stage;
      }
      ring.advance(S::kTurns);
    }
    if constexpr (!kFp8) {
      products_wait<0>();
      if (previous >= 0) release(previous);
      previous = -1;
    }
  }
};

/// The product's own rows in shared memory: those steps of K that this thread block multiplies with, as the copy engine
/// would have put them.
struct Input {
  std::uint8_t* data;
  Steps steps;
  [[nodiscard]] __device__ __forceinline__ bool has(int byte) const {
    return byte >= steps.begin * kRowBytes && byte < steps.end * kRowBytes;
  }
  [[nodiscard]] __device__ __forceinline__ std::uint8_t* at(int row, int byte) const {
    return data + (byte / kRowBytes - steps.begin) * (8 * kRowBytes) + row * kRowBytes +
           ((byte % kRowBytes / 16) ^ row) * 16 + byte % 16;
  }
};

/// Normalizes the rows of x into `input`, quantized with their scales or as bf16.
template <bool kFp8, int kVectors>
__device__ __forceinline__ void norm_input(const Params& p, const Input& input, float* own_scale) {
  const int thread = static_cast<int>(threadIdx.x), vectors = p.k / 4;
  constexpr int kBytes = kFp8 ? 4 : 8;  // of a vector
  float4 w[kVectors], v[kVectors];
  load_row(w, p.source.norm, vectors);
  wait_for_previous();
  for (int r = 0; r < p.source.rows; ++r) {
    const int from = p.source.row_index != nullptr ? p.source.row_index[r] : r;
    load_row(v,
             static_cast<const float*>(p.source.data) + static_cast<std::size_t>(from) * static_cast<std::size_t>(p.k),
             vectors);
    norm_row(v, w, p.k, p.source.eps);
    float inverse = 1.0F;
    if constexpr (kFp8) {
      const float scale = row_scale_of(v);
      inverse = 1.0F / scale;
      if (thread == 0) own_scale[r] = scale;
    } else {
      if (thread == 0) own_scale[r] = 1.0F;
    }
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int at = thread + i * kRowThreads;
      if (at >= vectors) break;
      if (!input.has(at * kBytes)) continue;
      std::uint8_t* to = input.at(r, at * kBytes);
      if constexpr (kFp8) {
        *reinterpret_cast<std::uint32_t*>(to) = pack_fp8(times(v[i], inverse));
      } else {
        *reinterpret_cast<uint2*>(to) = make_uint2(pack_bf16(v[i].x, v[i].y), pack_bf16(v[i].z, v[i].w));
      }
    }
    for (int at = vectors * kBytes / 4 + thread; at < input.steps.end * kRowBytes / 4; at += kRowThreads)
      *reinterpret_cast<std::uint32_t*>(input.at(r, at * 4)) = 0;
  }
}

__device__ __forceinline__ float2 pair_of(std::uint32_t bits) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits));
}

/// Quantizes bf16 rows into `input`, all rows at once: at most kQuantizedHere elements.
__device__ __forceinline__ void quantize_input(const Params& p, const Input& input, float* own_scale) {
  constexpr int kVectors = kQuantizedHere / 8 / kRowThreads;
  __shared__ int peak[8];
  const int thread = static_cast<int>(threadIdx.x), row_vectors = p.k / 8, vectors = p.source.rows * row_vectors;
  if (thread < 8) peak[thread] = 0;
  wait_for_previous();
  uint4 v[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = thread + i * kRowThreads;
    v[i] = at < vectors ? static_cast<const uint4*>(p.source.data)[at] : make_uint4(0, 0, 0, 0);
  }
  named_barrier<1, kRowThreads>();
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = thread + i * kRowThreads, row = at < vectors ? at / row_vectors : -1;
    float most = 0.0F;
#pragma unroll
    for (const std::uint32_t bits : {v[i].x, v[i].y, v[i].z, v[i].w}) {
      const float2 f = pair_of(bits);
      most = fmaxf(most, fmaxf(fabsf(f.x), fabsf(f.y)));
    }
    // Magnitudes order like their bits.
    if (__all_sync(0xFFFFFFFFU, row == __shfl_sync(0xFFFFFFFFU, row, 0))) {
      most = warp_max(most);
      if (thread % 32 == 0 && row >= 0) atomicMax(&peak[row], __float_as_int(most));
    } else if (row >= 0) {
      atomicMax(&peak[row], __float_as_int(most));
    }
  }
  named_barrier<1, kRowThreads>();
  if (thread < p.source.rows) own_scale[thread] = scale_of_peak(__int_as_float(peak[thread]));
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = thread + i * kRowThreads;
    if (at >= vectors) break;
    const int row = at / row_vectors, byte = (at - row * row_vectors) * 8;
    if (!input.has(byte)) continue;
    const float inverse = 1.0F / scale_of_peak(__int_as_float(peak[row]));
    const float2 a = pair_of(v[i].x), b = pair_of(v[i].y), c = pair_of(v[i].z), d = pair_of(v[i].w);
    *reinterpret_cast<uint2*>(input.at(row, byte)) =
        make_uint2(pack_fp8(times(make_float4(a.x, a.y, b.x, b.y), inverse)),
                   pack_fp8(times(make_float4(c.x, c.y, d.x, d.y), inverse)));
  }
  const int rest = input.steps.end * kRowBytes / 4 - p.k / 4;  // words of a row beyond K
  for (int i = thread; i < p.source.rows * rest; i += kRowThreads)
    *reinterpret_cast<std::uint32_t*>(input.at(i / rest, p.k + i % rest * 4)) = 0;
}

/// A cluster's sums come together in the first thread block's result tile, so many tokens at a time, and `store` takes
/// them there. `second`: a warpgroup's other part (Way::rows in the second block).
template <typename S, Way kWay, int kColumns, typename Store>
__device__ __forceinline__ void gather_parts(float* tile, const float (&sum)[kColumns / 2],
                                             const float (&second)[kColumns / 2], int group, Store&& store) {
  constexpr int kSlot = S::kSumTokens * S::kSumStride;
  const int rank = static_cast<int>(blockIdx.x) % S::kBlocksOfTile;
  float* to =
      shared_of_block(tile, 0) + (kWay == Way::parts ? (rank * S::kGroups + group) * kSlot : rank * kSlot + group * 64);
#pragma unroll
  for (int round = 0; round < kColumns / S::kSumTokens; ++round) {
    cluster_wait();  // the first block is there, its tile is free
    if (group < S::kGroups) put<kColumns, S::kSumTokens>(to, S::kSumStride, sum, round);
    if (kWay == Way::rows && rank > 0) put<kColumns, S::kSumTokens>(to + kSlot, S::kSumStride, second, round);
    cluster_arrive();
    cluster_wait();
    if (rank == 0) store(round);
    if (round + 1 < kColumns / S::kSumTokens) cluster_arrive();
  }
}

template <typename S, bool kFp8, Way kWay, int kColumns, Source kSource, int kInput>
__device__ __forceinline__ void work(const Params& p, const Groups& groups, std::uint8_t* stages, std::uint64_t* full,
                                     std::uint64_t* empty, int steps) {
  const int group = static_cast<int>(threadIdx.x) / 128;
  const Input input{stages + S::kStages * S::kStageBytes, Steps::own<S::kBlocksOfTile>(steps)};
  float* own_scale = reinterpret_cast<float*>(empty + S::kStages);
  if constexpr (kSource == Source::normed) {
    constexpr int kMost = kInput * S::kBlocksOfTile / 8 / (kFp8 ? 1 : 2);  // elements of a row
    norm_input<kFp8, (kMost + 4 * kRowThreads - 1) / (4 * kRowThreads)>(p, input, own_scale);
  }
  if constexpr (kSource == Source::quantized) quantize_input(p, input, own_scale);
  if constexpr (kSource != Source::copied) {
    shared_writes_to_tensor_cores();
    named_barrier<1, S::kWorkers>();
  }
  float* tile = reinterpret_cast<float*>(input.data + kInput);
  const auto weight_offset = static_cast<std::uint32_t>(kWay != Way::parts ? group * 64 * kRowBytes : 0);
  Consumer<kFp8, S, kColumns> consumer{
      p, shared_address(stages), shared_address(input.data), full, empty, input.steps.begin, 0, {}};
  if constexpr (kWay == Way::parts) consumer.ring.advance(group);
  bool waited = kSource != Source::copied;
  for (Tiles tiles(p, groups, S::kTileRows, kColumns, S::kBlocksOfTile); tiles.more(); tiles.advance()) {
    consumer.first_row = tiles.weight_row + (kWay != Way::parts ? group * 64 : 0);
    float sum[kColumns / 2], part[kColumns / 2];
    if constexpr (kWay == Way::parts) {
      if (group < S::kGroups) consumer.run(sum, S::of_turn(steps, group), 0);
    } else if constexpr (kWay == Way::chain) {
      consumer.run(sum, input.steps, weight_offset);
    } else {
      const int first = static_cast<int>(blockIdx.x) % S::kBlocksOfTile * (kParts / S::kBlocksOfTile);
      consumer.run(sum, {part_begin(steps, first), part_begin(steps, first + 1)}, weight_offset);
#pragma unroll 1
      for (int i = first + 1; i < first + kParts / S::kBlocksOfTile; ++i) {
        consumer.run(part, {part_begin(steps, i), part_begin(steps, i + 1)}, weight_offset);
        if (first > 0) break;  // the second of a cluster gives its parts apart
#pragma unroll
        for (int e = 0; e < kColumns / 2; ++e) sum[e] += part[e];
      }
    }
    if (!waited) wait_for_previous(), waited = true;
    if constexpr (S::kBlocksOfTile > 1) {
      return gather_parts<S, kWay, kColumns>(tile, sum, part, group, [&](int round) {  // a cluster has one tile
        store<S>(p, tile, own_scale, tiles.row, tiles.token + round * S::kSumTokens, tiles.end_token, tiles.from);
      });
    }
    float* put_at = tile + group * (kWay == Way::parts ? S::kSumTokens * S::kSumStride : 64);
#pragma unroll
    for (int round = 0; round < kColumns / S::kSumTokens; ++round) {
      named_barrier<1, S::kWorkers>();  // the result tile is free
      put<kColumns, S::kSumTokens>(put_at, S::kSumStride, sum, round);
      named_barrier<1, S::kWorkers>();
      store<S>(p, tile, own_scale, tiles.row, tiles.token + round * S::kSumTokens, tiles.end_token, tiles.from);
    }
  }
}

/// A warp per row chooses its experts; every thread block for itself, the first one notes them for the kernels after.
__device__ __forceinline__ void choose_groups(const RowSource& source, int4* list, float (*scratch)[kMostExperts]) {
  const int token = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (token < source.rows) {
    wait_for_previous();
    const Chosen choice = choose_experts(
        source.router_logits + static_cast<std::size_t>(token) * static_cast<std::size_t>(source.router.experts),
        source.router_bias, source.router, scratch[token]);
    if (lane < source.router.chosen) {
      const int slot = token * source.router.chosen + lane;
      const int4 group = direct_group(choice.expert, slot, token);
      list[slot] = group;
      if (blockIdx.x == 0) {
        source.grouping.expert[slot] = choice.expert, source.grouping.weight[slot] = choice.weight;
        source.grouping.slot[slot] = slot, source.grouping.tiles[slot] = group;
        if (slot == 0) *source.grouping.tile_count = source.rows * source.router.chosen;
      }
    }
  }
  __syncthreads();
}

template <typename S, bool kFp8, Way kWay, int kColumns, Source kSource, int kInput>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    matmul_kernel(const __grid_constant__ CUtensorMap weight, const __grid_constant__ CUtensorMap tokens,
                  const Params p) {
  constexpr int kStepElements = kFp8 ? 128 : 64;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* stages = raw + (1024U - (shared_address(raw) & 1023U)) % 1024U;
  auto* full = reinterpret_cast<std::uint64_t*>(stages + S::kStages * S::kStageBytes + kInput + S::kSumBytes);
  std::uint64_t* empty = full + S::kStages;
  if (threadIdx.x == 0) {
    prefetch_map(&weight);
    if constexpr (kSource == Source::copied) prefetch_map(&tokens);
    for (int s = 0; s < S::kStages; ++s) {
      barrier_init(&full[s], 1);
      barrier_init(&empty[s], (kWay == Way::parts ? 1 : S::kGroups) * 4);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if constexpr (S::kBlocksOfTile > 1) cluster_arrive();
  launch_dependents();
  Groups groups{nullptr, 0};
  if constexpr (kSource == Source::normed) {
    __shared__ int4 chosen[kNormedHere * kMostChosen];
    __shared__ float scratch[kNormedHere][kMostExperts];
    if (p.source.router_logits != nullptr) {
      choose_groups(p.source, chosen, scratch);
      groups = {chosen, p.source.rows * p.source.router.chosen};
    }
  }
  if (groups.list == nullptr && p.group_count != nullptr) {
    wait_for_previous();  // the list of tiles is its result
    groups = {p.groups, *p.group_count};
  }
  const int steps = (p.k + kStepElements - 1) / kStepElements;
  if (threadIdx.x >= S::kWorkers) {
    if constexpr (kWay != Way::parts) fewer_registers<24>();
    const int warp = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x - S::kWorkers) / 32, 0);
    if (elected() && warp < S::kTurns) {
      feed<S, kColumns, kStepElements>(&weight, &tokens, p, groups, stages, full, empty, S::of_turn(steps, warp), warp);
    }
  } else {
    if constexpr (kWay != Way::parts) more_registers<240>();
    work<S, kFp8, kWay, kColumns, kSource, kInput>(p, groups, stages, full, empty, steps);
  }
}

int tiles_of(const Matrix& weight, int tile_rows, int token_tiles, const MatmulGroups* groups) {
  const int n = groups != nullptr ? groups->rows : weight.n;
  return (n + tile_rows - 1) / tile_rows * (groups != nullptr ? groups->most : token_tiles);
}

template <bool kFp8, Way kWay, int kColumns, Source kSource, int kInput, int kCluster = 1>
void start(const Matrix& weight, const CUtensorMap& input_map, const float* row_scale, int t, const MatmulOut& out,
           const MatmulGroups* groups, const RowSource& source, cudaStream_t stream) {
  using S = Shape<kWay, kColumns, kInput, kCluster>;
  auto* kernel = matmul_kernel<S, kFp8, kWay, kColumns, kSource, kInput>;
  static const cudaError_t ready = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(S::kShared));
  (void)ready;
  const int token_tiles = (t + kColumns - 1) / kColumns;
  const int tiles = tiles_of(weight, S::kTileRows, token_tiles, groups);
  const int blocks = kCluster > 1 ? tiles * kCluster : std::min(tiles, multiprocessor_count());
  const int n = groups != nullptr ? groups->rows : weight.n;
  const Params params{place_of(out, groups, row_scale, n, t, source.by_token, token_tiles == 1),
                      weight.scale,
                      weight.k,
                      weight.k_blocks(),
                      (weight.n + 63) / 64,
                      source};
  launch_clusters(kernel, kCluster, dim3(static_cast<unsigned>(blocks)), dim3(S::kThreads), S::kShared, stream,
                  weight.map[S::kTileRows == 64 ? 0 : 1], input_map, params);
}

/// Whether clusters share the tiles: these are at most half of `most`, and one's weights fill a thread block's memory.
/// Smaller tiles are quicker without (V2-Lite, one user, 499 → 485 tokens/s), and so are many tokens of fp8 (8B, 256
/// users, 27,000 → 26,480; bf16 21,860 → 22,770).
bool spreads(const Matrix& weight, int tile_rows, int tiles, int most) {
  constexpr std::size_t kFull = 200 << 10;
  return tiles * 2 <= most &&
         weight.bytes() / static_cast<std::size_t>(weight.n) * static_cast<std::size_t>(tile_rows) > kFull;
}

template <bool kFp8, int kTile>
void run(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
         cudaStream_t stream) {
  constexpr Choice c = kChoices[kTile];
  int map = 0;
  while (kOperandRows[map] < c.columns) ++map;
  const float* row_scale = kFp8 ? input.row_scale : nullptr;
  if constexpr (c.columns <= 16 || (c.way == Way::rows && !kFp8)) {
    constexpr int kRows = c.way == Way::parts ? 64 : 128;
    if (spreads(weight, kRows, tiles_of(weight, kRows, (t + c.columns - 1) / c.columns, groups), out.ways.spread))
      return start<kFp8, c.way, c.columns, Source::copied, 0, 2>(weight, input.map[map], row_scale, t, out, groups,
                                                                 RowSource{}, stream);
  }
  start<kFp8, c.way, c.columns, Source::copied, 0>(weight, input.map[map], row_scale, t, out, groups, RowSource{},
                                                   stream);
}

// Sizes of a product's own rows in shared memory, 8 rows each.
inline constexpr int kInputSizes[] = {32 << 10, 64 << 10, 112 << 10};

int input_bytes(bool fp8, int k) {
  const int step = fp8 ? 128 : 64;
  return (k + step - 1) / step * 8 * kRowBytes;
}

template <bool kFp8, Source kSource>
void run_from(const Matrix& weight, const RowSource& source, int t, const MatmulOut& out, const MatmulGroups* groups,
              cudaStream_t stream) {
  const int bytes = input_bytes(kFp8, weight.k);
  const CUtensorMap& unused = weight.map[0];
  if (bytes <= kInputSizes[0] && spreads(weight, 64, tiles_of(weight, 64, 1, groups), out.ways.spread)) {
    start<kFp8, Way::parts, 8, kSource, kInputSizes[0] / 2, 2>(weight, unused, nullptr, t, out, groups, source, stream);
  } else if (bytes <= kInputSizes[0]) {
    start<kFp8, Way::parts, 8, kSource, kInputSizes[0]>(weight, unused, nullptr, t, out, groups, source, stream);
  } else if (bytes <= kInputSizes[1]) {
    start<kFp8, Way::parts, 8, kSource, kInputSizes[1]>(weight, unused, nullptr, t, out, groups, source, stream);
  } else {
    start<kFp8, Way::parts, 8, kSource, kInputSizes[2]>(weight, unused, nullptr, t, out, groups, source, stream);
  }
}

void run_source(const Matrix& weight, const RowSource& source, int t, const MatmulOut& out, const MatmulGroups* groups,
                cudaStream_t stream) {
  if (source.norm == nullptr) return run_from<true, Source::quantized>(weight, source, t, out, groups, stream);
  if (weight.fp8) return run_from<true, Source::normed>(weight, source, t, out, groups, stream);
  run_from<false, Source::normed>(weight, source, t, out, groups, stream);
}

template <bool kFp8>
void run_tile(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
              cudaStream_t stream, int tile) {
  switch (tile) {
    case 0:
      return run<kFp8, 0>(weight, input, t, out, groups, stream);
    case 1:
      return run<kFp8, 1>(weight, input, t, out, groups, stream);
    case 2:
      return run<kFp8, 2>(weight, input, t, out, groups, stream);
    case 3:
      return run<kFp8, 3>(weight, input, t, out, groups, stream);
    case kChainTile:
      if constexpr (!kFp8) return run<false, kChainTile>(weight, input, t, out, groups, stream);
      [[fallthrough]];
    default:
      return run<kFp8, 4>(weight, input, t, out, groups, stream);
  }
}

PFN_cuTensorMapEncodeTiled_v12000 encode_function() {
  static const auto function = [] {
    void* pointer = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &pointer, 12000, cudaEnableDefault, &found);
    return found == cudaDriverEntryPointSuccess ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(pointer)
                                                : nullptr;
  }();
  return function;
}

bool make_map(CUtensorMap& map, void* data, bool fp8, int rows, int k, int box_rows) {
  const auto encode = encode_function();
  if (encode == nullptr) return false;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(k), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(k) * (fp8 ? 1U : 2U)};
  const cuuint32_t box[2] = {fp8 ? 128U : 64U, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  return encode(&map, fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, data, sizes, strides,
                box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace

bool make_maps(Matrix& matrix) {
  if (matrix.ints.bits > 0) return true;
  return matrix.n % 4 == 0 && matrix.k > 3 * (matrix.fp8 ? 128 : 64) &&
         make_map(matrix.map[0], matrix.data, matrix.fp8, matrix.n, matrix.k, 64) &&
         make_map(matrix.map[1], matrix.data, matrix.fp8, matrix.n, matrix.k, 128);
}

bool make_maps(Activations& activations) {
  bool good = true;
  for (int i = 0; i < 6; ++i) {
    good = good && make_map(activations.map[i], activations.data, activations.fp8, activations.rows, activations.k,
                            kOperandRows[i]);
  }
  return good;
}

/// The fastest tile by a small model of the chip: waves of thread blocks at each tile's measured rate, or the time that
/// the weight's bytes take.
int choose_tile(bool fp8, int n, int t, int multiprocessors, const MatmulWays& ways) {
  if (t <= 8) return 0;
  if (t <= 16) return 1;
  if (t <= 32) return 2;
  if (t <= 64) return 3;
  // Teraflops of the whole chip when all blocks are busy, by tile; measured with gpu_bench products.
  constexpr double kBf16Rate[] = {90, 180, 260, 340, 580, 640};
  constexpr double kFp8Rate[] = {135, 240, 440, 620, 930};
  int best = 3;
  double best_time = 1e30;
  constexpr int kManyTokens = 512;  // with fewer, memory hides what the wide tile gains
  const int last = !ways.invariant && !fp8 && t >= kManyTokens ? kChainTile : kTileChoices - 1;
  for (int tile = 3; tile <= last; ++tile) {
    const int rows = kChoices[tile].way == Way::parts ? 64 : 128, tokens = kChoices[tile].columns;
    const int blocks = ((n + rows - 1) / rows) * ((t + tokens - 1) / tokens);
    const int waves = (blocks + multiprocessors - 1) / multiprocessors;
    constexpr double kClusterTime = 0.55;  // of a tile that two thread blocks share
    const bool spread = !fp8 && tokens == 128 && 2 * blocks <= ways.spread;
    const double time =
        (spread ? kClusterTime : waves) * static_cast<double>(rows) * tokens / (fp8 ? kFp8Rate : kBf16Rate)[tile];
    if (time < best_time) best_time = time, best = tile;
  }
  return best;
}

int tile_columns(int tile) {
  return kChoices[tile].columns;
}

void matmul(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream,
            int tile) {
  if (t == 0) return;
  if (weight.ints.bits > 0) {
    if (tile < 0) tile = choose_int_tile(weight.n, t, multiprocessor_count());
    return int_matmul(weight, input, t, out, nullptr, stream, tile);
  }
  if (tile < 0) tile = choose_tile(weight.fp8, weight.n, t, multiprocessor_count(), out.ways);
  if (weight.fp8) {
    run_tile<true>(weight, input, t, out, nullptr, stream, tile);
  } else {
    run_tile<false>(weight, input, t, out, nullptr, stream, tile);
  }
}

void grouped_matmul(const Matrix& weight, const Activations& input, const MatmulGroups& groups, const MatmulOut& out,
                    cudaStream_t stream, int tile) {
  if (weight.ints.bits > 0) return int_matmul(weight, input, 1, out, &groups, stream, tile);
  if (weight.fp8) {
    run_tile<true>(weight, input, 1, out, &groups, stream, tile);
  } else {
    run_tile<false>(weight, input, 1, out, &groups, stream, tile);
  }
}

bool makes_rows(bool fp8, int k, int rows, bool norm) {
  if (rows > (norm ? kNormedHere : 8) || k % 8 != 0 || input_bytes(fp8, k) > kInputSizes[2]) return false;
  return norm || (fp8 && rows * k <= kQuantizedHere);
}

void matmul(const Matrix& weight, const RowSource& source, const MatmulOut& out, cudaStream_t stream) {
  run_source(weight, source, source.rows, out, nullptr, stream);
}

void grouped_matmul(const Matrix& weight, const RowSource& source, const MatmulGroups& groups, const MatmulOut& out,
                    cudaStream_t stream) {
  run_source(weight, source, 1, out, &groups, stream);
}

int multiprocessor_count() {
  static const int count = [] {
    int device = 0, value = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device);
    return value;
  }();
  return count;
}

}  // namespace hp::cuda
