// Products out[t, n] = x[t, :] · w[n, :] on Hopper's tensor cores. The weight is the instruction's 64-row side and
// tokens are its columns, so that 8 tokens cost no more than they should. Warpgroups multiply; one warp feeds shared
// memory through the copy engine, the weight's first tiles before the previous kernel has finished.
//
// Batch invariance: an element is the sum of two halves of K, each one accumulator that runs over its steps in order
// (fp8: blocks of 128, scaled and added in order). With few tokens two warpgroups compute the halves side by side, with
// many one computes them one after the other: the same numbers, the same additions.
#include <cudaTypedefs.h>

#include <algorithm>

#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace hp::cuda {
namespace {

inline constexpr std::uint64_t kEvictNormal = 0x1000000000000000ULL;
inline constexpr int kRowBytes = 128;  // of a tile in shared memory: 64 bf16 or 128 fp8 along K
inline constexpr int kGroups = 2;      // warpgroups that multiply
inline constexpr int kWorkers = kGroups * 128;
inline constexpr int kThreads = kWorkers + 128;

struct Params {
  const float* scale;
  const float* row_scale;
  const float* bias;
  void* out;
  int n, k, t, stride, k_blocks;
  Epilogue epilogue;
  std::uint64_t weight_policy;
};

/// kColumns: tokens of a tile. kSplit: the two warpgroups take half of K each of 64 rows; else 64 rows each.
template <bool kFp8, int kColumns, bool kSplit>
struct Shape {
  static constexpr int kTileRows = kSplit ? 64 : 128;
  static constexpr int kWeightBytes = kTileRows * kRowBytes, kTokenBytes = kColumns * kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  // Few tokens: deep stages, as reading runs at window over latency; few registers, so that the next kernel fits
  // beside.
  static constexpr bool kLight = kSplit && kColumns <= 32;
  static constexpr int kMemory = 226 * 1024;  // stages and result tile
  // The result tile: [halves][tokens][rows], so many tokens at a time.
  static constexpr int kSumStride = kTileRows + 4;
  static constexpr int kSumTokens = kColumns < 64 ? kColumns : kSplit ? 32 : 64;
  static constexpr int kSumBytes = (kSplit ? 2 : 1) * kSumTokens * kSumStride * 4;
  // Even when two warpgroups take turns: a stage then always serves the same one, which thus sees each of its phases.
  static constexpr int kFit = (kMemory - kSumBytes - 2048) / kStageBytes;
  static constexpr int kStages = kSplit ? kFit / 2 * 2 : kFit;
  static constexpr std::size_t kShared =
      static_cast<std::size_t>(kStages) * kStageBytes + kSumBytes + 1024 + 2 * 8 * kStages;
};

/// The steps of K that a half runs over.
__device__ __forceinline__ int half_begin(int steps, int half) {
  return half == 0 ? 0 : (steps + 1) / 2;
}
__device__ __forceinline__ int half_end(int steps, int half) {
  return half == 0 ? (steps + 1) / 2 : steps;
}

__device__ __forceinline__ float silu(float x) {
  return x / (1.0F + exp2_fast(-1.4426950408889634F * x));
}

/// A place in the ring of stages.
template <int kStages>
struct Ring {
  int stage = 0;
  std::uint32_t phase = 0;
  __device__ __forceinline__ void advance(int steps) {
    stage += steps;
    while (stage >= kStages) stage -= kStages, phase ^= 1U;
  }
};

/// The tiles that a thread block computes, one after the other: neighbours share their rows of the weight.
struct Tiles {
  int next, count, token_tiles;
  __device__ __forceinline__ Tiles(const Params& p, int rows, int columns)
      : next(static_cast<int>(blockIdx.x)),
        count(((p.n + rows - 1) / rows) * ((p.t + columns - 1) / columns)),
        token_tiles((p.t + columns - 1) / columns) {}
  __device__ __forceinline__ bool more() const { return next < count; }
  __device__ __forceinline__ int row_tile() const { return next / token_tiles; }
  __device__ __forceinline__ int token_tile() const { return next % token_tiles; }
  __device__ __forceinline__ void advance() { next += static_cast<int>(gridDim.x); }
};

struct Feed {
  const CUtensorMap* map;
  bool weights;  ///< else tokens
  int half;      ///< of K, when two warpgroups split it
};

/// One thread copies one operand's boxes into the stages (of one half). The warp of the weights announces a stage's
/// bytes.
template <typename S, bool kSplit, int kColumns, int kStepElements>
__device__ __forceinline__ void feed(const Feed& f, const Params& p, std::uint8_t* stages, std::uint64_t* full,
                                     std::uint64_t* empty, int steps) {
  constexpr int kTurns = kSplit ? 2 : 1;
  Ring<S::kStages> ring{f.half, 0};
  bool refill = false, waited = false;
  const int begin = kSplit ? half_begin(steps, f.half) : 0, end = kSplit ? half_end(steps, f.half) : steps;
  for (Tiles tiles(p, S::kTileRows, kColumns); tiles.more(); tiles.advance()) {
    const int row = f.weights ? tiles.row_tile() * S::kTileRows : tiles.token_tile() * kColumns;
    for (int step = begin; step < end; ++step) {
      // Weights do not depend on the kernel before; whatever else is read does.
      if (!f.weights && !waited) wait_for_previous(), waited = true;
      if (refill) barrier_wait(&empty[ring.stage], ring.phase ^ 1U);
      std::uint8_t* out = stages + ring.stage * S::kStageBytes + (f.weights ? 0 : S::kWeightBytes);
      if (f.weights) barrier_expect(&full[ring.stage], S::kStageBytes);
      copy_box(out, f.map, step * kStepElements, row, &full[ring.stage], f.weights ? p.weight_policy : kEvictLast);
      ring.advance(kTurns);
      refill = refill || ring.phase != 0;
    }
  }
}

/// One step's product of one warpgroup: fp8 into a fresh part that is scaled into `sum`, bf16 straight into it.
template <bool kFp8, int kColumns>
__device__ __forceinline__ void multiply(float (&sum)[kColumns / 2], std::uint32_t weights_at, std::uint32_t tokens_at,
                                         bool keep, float low, float high) {
  if constexpr (kFp8) {
    float part[kColumns / 2];
    products_begin();
#pragma unroll
    for (int kk = 0; kk < 4; ++kk) {
      const auto offset = static_cast<std::uint32_t>(kk * 32);
      Product<true, kColumns>::run(part, operand_descriptor(weights_at + offset),
                                   operand_descriptor(tokens_at + offset), kk > 0);
    }
    products_commit();
    products_wait<0>();
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      const float scale = (i & 2) != 0 ? high : low;
      sum[i] = __fmaf_rn(part[i], scale, sum[i]);
    }
  } else {
    products_begin();
#pragma unroll
    for (int kk = 0; kk < 4; ++kk) {
      const auto offset = static_cast<std::uint32_t>(kk * 32);
      Product<false, kColumns>::run(sum, operand_descriptor(weights_at + offset),
                                    operand_descriptor(tokens_at + offset), keep || kk > 0);
    }
    products_commit();
    products_wait<1>();
  }
}

template <bool kFp8, typename S, bool kSplit, int kColumns>
struct Consumer {
  const Params& p;
  std::uint32_t stages;
  std::uint64_t *full, *empty;
  int first_row;  // of this warpgroup's 64
  Ring<S::kStages> ring;
  int previous = -1;

  __device__ __forceinline__ void release(int stage) {
    if (threadIdx.x % 32U == 0) barrier_arrive(&empty[stage]);
  }

  /// Runs over the steps [begin, end) of K. The caller has set the ring to the first of its loads.
  __device__ __forceinline__ void run(float (&sum)[kColumns / 2], int begin, int end, std::uint32_t weight_offset) {
    if constexpr (kFp8) {
#pragma unroll
      for (float& s : sum) s = 0.0F;
    }
    const int tile = min(first_row / 64, (p.n + 63) / 64 - 1);
    const float* scale = p.scale + static_cast<std::size_t>(2 * tile) * static_cast<std::size_t>(p.k_blocks);
#pragma unroll 1
    for (int step = begin; step < end; ++step) {
      float low = 1.0F, high = 1.0F;
      if constexpr (kFp8) low = __ldg(scale + step), high = __ldg(scale + p.k_blocks + step);
      const std::uint32_t at = stages + static_cast<std::uint32_t>(ring.stage * S::kStageBytes);
      barrier_wait(&full[ring.stage], ring.phase);
      multiply<kFp8, kColumns>(sum, at + weight_offset, at + S::kWeightBytes, step > begin, low, high);
      if constexpr (kFp8) {
        release(ring.stage);
      } else {
        if (previous >= 0) release(previous);
        previous = ring.stage;
      }
      ring.advance(kSplit ? 2 : 1);
    }
    if constexpr (!kFp8) {
      products_wait<0>();
      if (previous >= 0) release(previous);
      previous = -1;
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
template <typename S, bool kSplit>
__device__ __forceinline__ float4 take(const float* tile, int token, int row) {
  const float4 first = *reinterpret_cast<const float4*>(tile + token * S::kSumStride + row);
  if constexpr (!kSplit) return first;
  return add(first, *reinterpret_cast<const float4*>(tile + (S::kSumTokens + token) * S::kSumStride + row));
}

/// The result tile to memory, four outputs a thread, neighbouring threads on neighbouring outputs.
template <typename S, bool kSplit>
__device__ __forceinline__ void store(const Params& p, const float* tile, int first_row, int first_token) {
  const bool swiglu = p.epilogue == Epilogue::swiglu;
  const int vectors = swiglu ? S::kTileRows / 8 : S::kTileRows / 4;
  const int tokens = min(S::kSumTokens, p.t - first_token);
  for (int i = static_cast<int>(threadIdx.x); i < tokens * vectors; i += kWorkers) {
    const int token = i / vectors, vector = i % vectors;
    const float factor = p.row_scale != nullptr ? p.row_scale[first_token + token] : 1.0F;
    const std::size_t line = static_cast<std::size_t>(first_token + token) * static_cast<std::size_t>(p.stride);
    if (swiglu) {
      const int row = vector / 2 * 16 + vector % 2 * 4;
      if (first_row + row >= p.n) continue;
      const float4 g = scaled(take<S, kSplit>(tile, token, row), factor);
      const float4 u = scaled(take<S, kSplit>(tile, token, row + 8), factor);
      Bf16* out = static_cast<Bf16*>(p.out) + line + static_cast<std::size_t>(first_row / 2 + 4 * vector);
      *reinterpret_cast<uint2*>(out) =
          make_uint2(pack_bf16(silu(g.x) * u.x, silu(g.y) * u.y), pack_bf16(silu(g.z) * u.z, silu(g.w) * u.w));
      continue;
    }
    const int row = first_row + 4 * vector;
    if (row >= p.n) continue;
    float4 v = scaled(take<S, kSplit>(tile, token, 4 * vector), factor);
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

template <bool kFp8, int kColumns, bool kSplit>
__device__ __forceinline__ void work(const Params& p, std::uint8_t* stages, std::uint64_t* full, std::uint64_t* empty,
                                     int steps) {
  using S = Shape<kFp8, kColumns, kSplit>;
  const int group = static_cast<int>(threadIdx.x) / 128;
  float* tile = reinterpret_cast<float*>(stages + S::kStages * S::kStageBytes);
  Consumer<kFp8, S, kSplit, kColumns> consumer{p, shared_address(stages), full, empty, 0, {}};
  if constexpr (kSplit) consumer.ring.advance(group);
  bool waited = false;
  for (Tiles tiles(p, S::kTileRows, kColumns); tiles.more(); tiles.advance()) {
    const int tile_row = tiles.row_tile() * S::kTileRows;
    consumer.first_row = tile_row + (kSplit ? 0 : group * 64);
    float sum[kColumns / 2];
    if constexpr (kSplit) {
      consumer.run(sum, half_begin(steps, group), half_end(steps, group), 0);
    } else {
      const auto offset = static_cast<std::uint32_t>(group * 64 * kRowBytes);
      float first[kColumns / 2];
      consumer.run(first, 0, half_end(steps, 0), offset);
      consumer.run(sum, half_begin(steps, 1), steps, offset);
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) sum[i] = first[i] + sum[i];
    }
    if (!waited) wait_for_previous(), waited = true;
#pragma unroll
    for (int round = 0; round < kColumns / S::kSumTokens; ++round) {
      const int first_token = tiles.token_tile() * kColumns + round * S::kSumTokens;
      named_barrier<1, kWorkers>();  // the result tile is free
      put<kColumns, S::kSumTokens>(tile + (kSplit ? group * S::kSumTokens * S::kSumStride : group * 64), S::kSumStride,
                                   sum, round);
      named_barrier<1, kWorkers>();
      store<S, kSplit>(p, tile, tile_row, first_token);
    }
  }
}

template <bool kFp8, int kColumns, bool kSplit>
__global__ void __launch_bounds__(kThreads, Shape<kFp8, kColumns, kSplit>::kLight ? 2 : 1)
    matmul_kernel(const __grid_constant__ CUtensorMap weight, const __grid_constant__ CUtensorMap tokens,
                  const Params p) {
  using S = Shape<kFp8, kColumns, kSplit>;
  constexpr int kStepElements = kFp8 ? 128 : 64;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* stages = raw + (1024U - (shared_address(raw) & 1023U)) % 1024U;
  auto* full = reinterpret_cast<std::uint64_t*>(stages + S::kStages * S::kStageBytes + S::kSumBytes);
  std::uint64_t* empty = full + S::kStages;
  if (threadIdx.x == 0) {
    prefetch_map(&weight);
    prefetch_map(&tokens);
    for (int s = 0; s < S::kStages; ++s) {
      barrier_init(&full[s], 1);
      barrier_init(&empty[s], (kSplit ? 1 : kGroups) * 4);
    }
    barrier_init_fence();
  }
  __syncthreads();
  launch_dependents();
  const int steps = (p.k + kStepElements - 1) / kStepElements;
  if (threadIdx.x >= kWorkers) {
    if constexpr (!S::kLight) fewer_registers<24>();
    const int warp = static_cast<int>(threadIdx.x - kWorkers) / 32;
    const bool weights = warp % 2 == 0;
    const Feed f{weights ? &weight : &tokens, weights, warp / 2};
    if (threadIdx.x % 32U == 0 && (kSplit || warp < 2)) {
      feed<S, kSplit, kColumns, kStepElements>(f, p, stages, full, empty, steps);
    }
  } else {
    if constexpr (!S::kLight) more_registers<240>();
    work<kFp8, kColumns, kSplit>(p, stages, full, empty, steps);
  }
}

struct Choice {
  int columns;
  bool split;
};
inline constexpr Choice kChoices[kTileChoices] = {{8, true},  {16, true},  {32, true},
                                                  {64, true}, {128, true}, {128, false}};

template <bool kFp8, int kTile>
void run(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream) {
  constexpr Choice c = kChoices[kTile];
  using S = Shape<kFp8, c.columns, c.split>;
  auto* kernel = matmul_kernel<kFp8, c.columns, c.split>;
  static const cudaError_t ready = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(S::kShared));
  (void)ready;
  const int token_tiles = (t + c.columns - 1) / c.columns;
  const int tiles = (weight.n + S::kTileRows - 1) / S::kTileRows * token_tiles;
  const int blocks = std::min(tiles, multiprocessor_count());
  const Params params{weight.scale,
                      kFp8 ? input.row_scale : nullptr,
                      out.bias,
                      out.data,
                      weight.n,
                      weight.k,
                      t,
                      out.stride,
                      weight.k_blocks(),
                      out.epilogue,
                      token_tiles == 1 ? kEvictFirst : kEvictNormal};
  int map = 0;
  while (kOperandRows[map] < c.columns) ++map;
  launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), S::kShared, stream, weight.map[c.split ? 0 : 1],
         input.map[map], params);
}

template <bool kFp8>
void run_tile(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream,
              int tile) {
  switch (tile) {
    case 0:
      return run<kFp8, 0>(weight, input, t, out, stream);
    case 1:
      return run<kFp8, 1>(weight, input, t, out, stream);
    case 2:
      return run<kFp8, 2>(weight, input, t, out, stream);
    case 3:
      return run<kFp8, 3>(weight, input, t, out, stream);
    case 4:
      return run<kFp8, 4>(weight, input, t, out, stream);
    default:
      return run<kFp8, 5>(weight, input, t, out, stream);
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
  return matrix.n % 4 == 0 && matrix.k > (matrix.fp8 ? 128 : 64) &&
         make_map(matrix.map[0], matrix.data, matrix.fp8, matrix.n, matrix.k, 64) &&
         make_map(matrix.map[1], matrix.data, matrix.fp8, matrix.n, matrix.k, 128);
}

bool make_maps(Activations& activations) {
  bool good = true;
  for (int i = 0; i < 5; ++i) {
    good = good && make_map(activations.map[i], activations.data, activations.fp8, activations.rows, activations.k,
                            kOperandRows[i]);
  }
  return good;
}

/// The fastest tile by a small model of the chip: waves of thread blocks at each tile's measured rate, or the time that
/// the weight's bytes take.
int choose_tile(bool fp8, int n, int k, int t, int multiprocessors) {
  (void)k;
  if (t <= 8) return 0;
  if (t <= 16) return 1;
  if (t <= 32) return 2;
  if (t <= 64) return 3;
  // Teraflops of the whole chip when all blocks are busy, by tile; measured with gpu_bench products.
  constexpr double kBf16Rate[] = {90, 180, 260, 350, 420, 600};
  constexpr double kFp8Rate[] = {135, 240, 440, 600, 700, 950};
  int best = 3;
  double best_time = 1e30;
  for (int tile = 3; tile < kTileChoices; ++tile) {
    const int rows = kChoices[tile].split ? 64 : 128;
    const int blocks = ((n + rows - 1) / rows) * ((t + kChoices[tile].columns - 1) / kChoices[tile].columns);
    const int waves = (blocks + multiprocessors - 1) / multiprocessors;
    const double time = waves * static_cast<double>(rows) * kChoices[tile].columns / (fp8 ? kFp8Rate : kBf16Rate)[tile];
    if (time < best_time) best_time = time, best = tile;
  }
  return best;
}

void matmul(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream,
            int tile) {
  if (t == 0) return;
  if (tile < 0) tile = choose_tile(weight.fp8, weight.n, weight.k, t, multiprocessor_count());
  if (weight.fp8) {
    run_tile<true>(weight, input, t, out, stream, tile);
  } else {
    run_tile<false>(weight, input, t, out, stream, tile);
  }
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
