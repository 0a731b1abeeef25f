// Products out[t, n] = x[t, :] · w[n, :] of bf16 rows with weights of 4 or 8 bits, on Hopper's tensor cores. A tile of
// the weight with its scales is one stretch of memory (int_layout.h); a warpgroup reads its own words of it, makes bf16
// of them, which is exact, and multiplies from registers.
//
// Batch invariance: each group of K is an accumulator of its own over its steps in order, scaled and added in order
// within one of four parts of K; the parts are added in order. As in matmul.cu four warpgroups compute them side by
// side, or one in turn.
#include <algorithm>

#include "kernels/cuda/int_matmul.h"
#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/product_tiles.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kRowBytes = 128;  // of the rows' boxes in shared memory: 64 bf16 along K

struct Params : ProductPlace {
  const std::uint8_t* weight;
  int steps, row_tiles;  ///< of the stored matrix
};

template <int kBits, int kGroup, Way kWay, int kColumns>
struct Shape {
  static constexpr IntForm kForm{kBits, kGroup};
  static constexpr int kGroups = kWay == Way::parts ? 4 : 2, kWorkers = kGroups * 128, kThreads = kWorkers + 128;
  static constexpr int kTiles = kWay == Way::rows ? 2 : 1, kTileRows = kTiles * kIntRows;
  static constexpr int kTileBytes = int_tile_bytes(kForm), kWeightBytes = kTiles * kTileBytes;
  static constexpr int kInputBytes = 0, kTokenBytes = 2 * kColumns * kRowBytes;  // two boxes along K
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  // Few tokens: half of the memory and few registers, so that the next kernel fits beside this one.
  static constexpr bool kFew = kWay == Way::parts && kColumns <= 16;
  static constexpr int kMemory = (kFew ? 112 : 226) * 1024, kBlocks = 1;
  static constexpr int kSumStride = kTileRows + 4;
  static constexpr int kSumTokens = kWay == Way::parts ? (kColumns < 16 ? kColumns : 16) : 64;
  static constexpr int kSumParts = kWay == Way::parts ? kParts : 1;
  static constexpr int kSumBytes = kSumParts * kSumTokens * kSumStride * 4;
  static constexpr int kTurns = kWay == Way::parts ? kParts : 1;
  static constexpr int kStages = (kMemory - kSumBytes - 2048) / kStageBytes / kTurns * kTurns;
  static constexpr std::size_t kShared =
      static_cast<std::size_t>(kStages) * kStageBytes + kSumBytes + 1024 + 16 * kStages;
};

/// The loads of one turn, in order: the steps of its part of every tile.
template <typename S, int kColumns>
struct Cursor {
  Tiles tiles;
  int begin, end, step;
  __device__ __forceinline__ Cursor(const Params& p, const Groups& groups, int turn)
      : tiles(p, groups, S::kTileRows, kColumns),
        begin(S::kTurns > 1 ? part_begin(p.steps, turn) : 0),
        end(S::kTurns > 1 ? part_begin(p.steps, turn + 1) : p.steps),
        step(begin) {}
  __device__ __forceinline__ bool more() const { return begin < end && tiles.more(); }
  __device__ __forceinline__ void advance() {
    if (++step == end) step = begin, tiles.advance();
  }
};

/// One thread copies what one turn needs into its stages.
template <typename S, int kColumns>
__device__ __forceinline__ void feed(const CUtensorMap* tokens, const Params& p, const Groups& groups,
                                     std::uint8_t* stages, std::uint64_t* full, std::uint64_t* empty, int turn) {
  std::uint8_t* weights = stages + S::kStages * S::kTokenBytes;
  const auto load_weights = [&](const Cursor<S, kColumns>& at, int stage) {
    barrier_expect(&full[stage], S::kStageBytes);
#pragma unroll
    for (int i = 0; i < S::kTiles; ++i) {
      // Beyond the matrix the last tile again: its results are not stored.
      const int row_tile = min(at.tiles.weight_row / kIntRows + i, p.row_tiles - 1);
      const std::size_t tile =
          static_cast<std::size_t>(row_tile) * static_cast<std::size_t>(p.steps) + static_cast<std::size_t>(at.step);
      copy_bytes(weights + stage * S::kWeightBytes + i * S::kTileBytes, p.weight + tile * S::kTileBytes, S::kTileBytes,
                 &full[stage], p.weight_policy);
    }
  };
  const auto load_tokens = [&](const Cursor<S, kColumns>& at, int stage) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_box(stages + stage * S::kTokenBytes + i * kColumns * kRowBytes, tokens, at.step * kIntStep + 64 * i,
               at.tiles.from, &full[stage], kEvictLast);
    }
  };
  // Weights do not depend on the kernel before; tokens do.
  int ahead = turn;
  for (Cursor<S, kColumns> at(p, groups, turn); ahead < S::kStages && at.more(); ahead += S::kTurns, at.advance())
    load_weights(at, ahead);
  wait_for_previous();
  Cursor<S, kColumns> at(p, groups, turn);
  for (int stage = turn; stage < ahead; stage += S::kTurns, at.advance()) load_tokens(at, stage);
  for (Ring<S::kStages> ring{turn, 0}; at.more(); ring.advance(S::kTurns), at.advance()) {
    barrier_wait(&empty[ring.stage], ring.phase);
    load_weights(at, ring.stage);
    load_tokens(at, ring.stage);
  }
}

// bf16 of a whole number below 128 in its last seven bits: 128 + it is 0x4300 | it.
inline constexpr std::uint32_t k128 = 0x43004300U;

/// (a & kMask) | k128 in one instruction, which the compiler does not find by itself.
template <std::uint32_t kMask>
__device__ __forceinline__ std::uint32_t above_128(std::uint32_t a) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(out) : "r"(a), "n"(kMask), "n"(k128));
  return out;
}
__device__ __forceinline__ std::uint32_t difference(std::uint32_t a, std::uint32_t b) {
  std::uint32_t out;
  asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}

/// code + 8 in the lowest nibble of each half.
__device__ __forceinline__ std::uint32_t pair_of_nibbles(std::uint32_t word) {
  return difference(above_128<0x000F000FU>(word), k128 | 0x00080008U);
}
/// A signed byte in the lower half of each half: (128 + lower bits) - (128 or 256).
__device__ __forceinline__ std::uint32_t pair_of_bytes(std::uint32_t word) {
  return difference(above_128<0x007F007FU>(word), above_128<0x00800080U>(word));
}

/// The words of a thread for a unit of K.
template <int kBits>
struct Words {
  static constexpr int kCount = kBits / 2;
  std::uint32_t w[kCount];

  __device__ __forceinline__ void load(const std::uint8_t* tile, int unit, int thread) {
    const std::uint8_t* from = tile + unit * (kIntRows * kIntUnit * kBits / 8) + thread * 4 * kCount;
    if constexpr (kBits == 4) {
      const uint2 v = *reinterpret_cast<const uint2*>(from);
      w[0] = v.x, w[1] = v.y;
    } else {
      const uint4 v = *reinterpret_cast<const uint4*>(from);
      w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    }
  }
  /// The operand of 16 of K.
  __device__ __forceinline__ void operand(std::uint32_t (&a)[4], int half) const {
    if constexpr (kBits == 4) {
      a[0] = pair_of_nibbles(w[half]), a[2] = pair_of_nibbles(w[half] >> 4);
      a[1] = pair_of_nibbles(w[half] >> 8), a[3] = pair_of_nibbles(w[half] >> 12);
    } else {
      a[0] = pair_of_bytes(w[2 * half]), a[2] = pair_of_bytes(w[2 * half] >> 8);
      a[1] = pair_of_bytes(w[2 * half + 1]), a[3] = pair_of_bytes(w[2 * half + 1] >> 8);
    }
  }
};

/// Adds a step to `sum`: every group of it an accumulator of its own, scaled. While `kUnit` of K are multiplied the
/// next operands are made, in other registers; accumulators of short groups take turns where registers suffice.
template <int kBits, int kGroup, int kColumns, int kUnit>
__device__ __forceinline__ void multiply(float (&sum)[kColumns / 2], const std::uint8_t* tile, std::uint64_t tokens,
                                         int thread) {
  constexpr int kUnits = kIntStep / kUnit, kSixteens = kUnit / 16, kGroupUnits = kGroup / kUnit;
  constexpr bool kOverlap = kGroup == kIntStep || kColumns <= 32;
  constexpr int kAccumulators = kGroup < kIntStep && kOverlap ? 2 : 1;
  float part[kAccumulators][kColumns / 2];
  std::uint32_t a[2][kSixteens][4];
  const float* scales =
      reinterpret_cast<const float*>(tile + int_code_bytes(kBits)) + thread / 32 * 16 + thread % 32 / 4;
  float low[kIntStep / kGroup], high[kIntStep / kGroup];
#pragma unroll
  for (int g = 0; g < kIntStep / kGroup; ++g) low[g] = scales[g * kIntRows], high[g] = scales[g * kIntRows + 8];
  const auto add_group = [&](int group) {
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      float& p = part[group % kAccumulators][i];
      asm volatile("" : "+f"(p)::"memory");  // after the wait
      sum[i] = __fmaf_rn(p, (i & 2) != 0 ? high[group] : low[group], sum[i]);
    }
  };
  Words<kBits> words;
  words.load(tile, 0, thread);
#pragma unroll
  for (int unit = 0; unit < kUnits; ++unit) {
    const int group = unit / kGroupUnits;
#pragma unroll
    for (int i = 0; i < kSixteens; ++i) {
      const int at = unit * kUnit + 16 * i;
      words.operand(a[unit % 2][i], at % kIntUnit / 16);
      if (at % kIntUnit > 0 && at + 16 < kIntStep) words.load(tile, at / kIntUnit + 1, thread);
    }
    products_begin();
#pragma unroll
    for (int i = 0; i < kSixteens; ++i) {
      const int at = unit * kUnit + 16 * i;
      RegisterProduct<kColumns, false>::run(
          part[group % kAccumulators], a[unit % 2][i],
          tokens + static_cast<std::uint64_t>(at / 64 * kColumns * kRowBytes + at % 64 * 2) / 16,
          unit % kGroupUnits > 0 || i > 0);
    }
    products_commit();
    if constexpr (kOverlap) {
      if (unit == 0) continue;
      products_wait<1>();
      if (unit % kGroupUnits == 0) add_group(group - 1);
    } else {
      products_wait<0>();
      if ((unit + 1) % kGroupUnits == 0) add_group(group);
    }
  }
  if constexpr (kOverlap) {
    products_wait<0>();
    add_group(kIntStep / kGroup - 1);
  }
}

template <int kBits, int kGroup, Way kWay, int kColumns>
__device__ __forceinline__ void work(const Params& p, const Groups& groups, std::uint8_t* stages, std::uint64_t* full,
                                     std::uint64_t* empty) {
  using S = Shape<kBits, kGroup, kWay, kColumns>;
  // The same in a whole warp, and known to be so: addresses are then computed once for all of it.
  const int group = __shfl_sync(0xFFFFFFFFU, static_cast<int>(threadIdx.x) / 128, 0);
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const std::uint8_t* weights = stages + S::kStages * S::kTokenBytes + (kWay == Way::rows ? group * S::kTileBytes : 0);
  float* tile = reinterpret_cast<float*>(stages + S::kStages * S::kStageBytes);
  float* put_at = tile + group * (kWay == Way::parts ? S::kSumTokens * S::kSumStride : kIntRows);
  Ring<S::kStages> ring;
  if constexpr (kWay == Way::parts) ring.advance(group);
  const auto run = [&](float(&sum)[kColumns / 2], int part) {
#pragma unroll
    for (float& s : sum) s = 0.0F;
#pragma unroll 1
    for (int step = part_begin(p.steps, part), end = part_begin(p.steps, part + 1); step < end; ++step) {
      barrier_wait(&full[ring.stage], ring.phase);
      multiply<kBits, kGroup, kColumns, 32>(
          sum, weights + ring.stage * S::kWeightBytes,
          operand_descriptor(__shfl_sync(
              0xFFFFFFFFU, shared_address(stages) + static_cast<std::uint32_t>(ring.stage * S::kTokenBytes), 0)),
          thread);
      if (thread % 32 == 0) barrier_arrive(&empty[ring.stage]);
      ring.advance(S::kTurns);
    }
  };
  bool waited = false;
  for (Tiles tiles(p, groups, S::kTileRows, kColumns); tiles.more(); tiles.advance()) {
    float sum[kColumns / 2];
    if constexpr (kWay == Way::parts) {
      run(sum, group);
    } else {
      float part[kColumns / 2];
      run(sum, 0);
#pragma unroll 1
      for (int i = 1; i < kParts; ++i) {
        run(part, i);
#pragma unroll
        for (int e = 0; e < kColumns / 2; ++e) sum[e] += part[e];
      }
    }
    if (!waited) wait_for_previous(), waited = true;
#pragma unroll
    for (int round = 0; round < kColumns / S::kSumTokens; ++round) {
      named_barrier<1, S::kWorkers>();  // the result tile is free
      put<kColumns, S::kSumTokens>(put_at, S::kSumStride, sum, round);
      named_barrier<1, S::kWorkers>();
      store<S>(p, tile, nullptr, tiles.row, tiles.token + round * S::kSumTokens, tiles.end_token, 0);
    }
  }
}

template <int kBits, int kGroup, Way kWay, int kColumns>
__global__ void __launch_bounds__(Shape<kBits, kGroup, kWay, kColumns>::kThreads,
                                  Shape<kBits, kGroup, kWay, kColumns>::kBlocks)
    int_matmul_kernel(const __grid_constant__ CUtensorMap tokens, const Params p) {
  using S = Shape<kBits, kGroup, kWay, kColumns>;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* stages = raw + (1024U - (shared_address(raw) & 1023U)) % 1024U;
  auto* full = reinterpret_cast<std::uint64_t*>(stages + S::kStages * S::kStageBytes + S::kSumBytes);
  std::uint64_t* empty = full + S::kStages;
  if (threadIdx.x == 0) {
    prefetch_map(&tokens);
    for (int s = 0; s < S::kStages; ++s) {
      barrier_init(&full[s], 1);
      barrier_init(&empty[s], (kWay == Way::parts ? 1 : S::kGroups) * 4);
    }
    barrier_init_fence();
  }
  __syncthreads();
  launch_dependents();
  Groups groups{nullptr, 0};
  if (p.group_count != nullptr) {
    wait_for_previous();  // the list of tiles is its result
    groups = {p.groups, *p.group_count};
  }
  if (threadIdx.x >= S::kWorkers) {
    if constexpr (!S::kFew) fewer_registers<40>();
    const int warp = static_cast<int>(threadIdx.x - S::kWorkers) / 32;
    if (threadIdx.x % 32U == 0 && warp < S::kTurns) feed<S, kColumns>(&tokens, p, groups, stages, full, empty, warp);
  } else {
    if constexpr (!S::kFew) more_registers<kWay == Way::rows ? 232 : 104>();
    work<kBits, kGroup, kWay, kColumns>(p, groups, stages, full, empty);
  }
}

template <int kBits, int kGroup, int kTile>
void start(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
           cudaStream_t stream) {
  constexpr Choice c = kChoices[kTile];
  using S = Shape<kBits, kGroup, c.way, c.columns>;
  auto* kernel = int_matmul_kernel<kBits, kGroup, c.way, c.columns>;
  static const cudaError_t ready = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(S::kShared));
  (void)ready;
  int map = 0;
  while (kOperandRows[map] < c.columns) ++map;
  const int token_tiles = (t + c.columns - 1) / c.columns, n = groups != nullptr ? groups->rows : weight.n;
  const int tiles = (n + S::kTileRows - 1) / S::kTileRows * (groups != nullptr ? groups->most : token_tiles);
  const Params params{place_of(out, groups, nullptr, n, t, groups != nullptr && groups->by_token, token_tiles == 1),
                      static_cast<const std::uint8_t*>(weight.data), int_steps(weight.k),
                      (weight.n + kIntRows - 1) / kIntRows};
  launch(kernel, dim3(static_cast<unsigned>(std::min(tiles, multiprocessor_count()))), dim3(S::kThreads), S::kShared,
         stream, input.map[map], params);
}

template <int kBits, int kGroup>
void run_tile(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
              cudaStream_t stream, int tile) {
  switch (tile) {
    case 0:
      return start<kBits, kGroup, 0>(weight, input, t, out, groups, stream);
    case 1:
      return start<kBits, kGroup, 1>(weight, input, t, out, groups, stream);
    case 2:
      return start<kBits, kGroup, 2>(weight, input, t, out, groups, stream);
    case 3:
      return start<kBits, kGroup, 3>(weight, input, t, out, groups, stream);
    default:
      return start<kBits, kGroup, 4>(weight, input, t, out, groups, stream);
  }
}

template <int kBits>
void run_group(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
               cudaStream_t stream, int tile) {
  if (weight.ints.group == 32) return run_tile<kBits, 32>(weight, input, t, out, groups, stream, tile);
  if (weight.ints.group == 64) return run_tile<kBits, 64>(weight, input, t, out, groups, stream, tile);
  run_tile<kBits, 128>(weight, input, t, out, groups, stream, tile);
}

}  // namespace

void int_matmul(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, const MatmulGroups* groups,
                cudaStream_t stream, int tile) {
  if (weight.ints.bits == 4) {
    run_group<4>(weight, input, t, out, groups, stream, tile);
  } else {
    run_group<8>(weight, input, t, out, groups, stream, tile);
  }
}

int choose_int_tile(int n, int t, int multiprocessors) {
  if (t <= 64) return t <= 8 ? 0 : t <= 16 ? 1 : t <= 32 ? 2 : 3;
  // Teraflops of the whole chip when all blocks are busy, by tile.
  constexpr double kRate[] = {90, 180, 260, 340, 580};
  int best = 3;
  double best_time = 1e30;
  for (int tile = 3; tile < kTileChoices; ++tile) {
    const int rows = kChoices[tile].way == Way::rows ? 128 : 64, tokens = kChoices[tile].columns;
    const int waves = ((n + rows - 1) / rows * ((t + tokens - 1) / tokens) + multiprocessors - 1) / multiprocessors;
    const double time = waves * static_cast<double>(rows) * tokens / kRate[tile];
    if (time < best_time) best_time = time, best = tile;
  }
  return best;
}

}  // namespace hp::cuda
