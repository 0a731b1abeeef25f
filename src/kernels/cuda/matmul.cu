// Products out[t, n] = x[t, :] · w[n, :] on Hopper's tensor cores. The weight is the instruction's 64-row side and
// tokens are its columns, so that 8 tokens cost no more than they should. One warpgroup (or two) multiplies; one warp
// feeds shared memory through the copy engine, the weight's first tiles before the previous kernel has finished.
//
// Batch invariance: the sum over K of an element is one accumulator that runs over K in order (fp8: over blocks of 128
// that are scaled and added in order). Tile shapes only choose which elements a thread block computes.
#include <cudaTypedefs.h>

#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace hp::cuda {
namespace {

inline constexpr std::uint64_t kEvictNormal = 0x1000000000000000ULL;
inline constexpr int kRowBytes = 128;  // of a tile in shared memory: 64 bf16 or 128 fp8 along K

struct Params {
  const float* scale;
  const float* row_scale;
  const float* bias;
  void* out;
  int n, k, t, stride, k_blocks;
  Epilogue epilogue;
  std::uint64_t weight_policy;
};

/// kColumns: tokens of one instruction; a warpgroup has kM × kN of them; kGroups warpgroups share the tokens.
template <bool kFp8, int kColumns, int kN, int kM, int kGroups, int kStages>
struct Shape {
  static constexpr int kTileRows = 64 * kM * kGroups, kTileTokens = kColumns * kN;
  static constexpr int kWeightBytes = kTileRows * kRowBytes, kTokenBytes = kTileTokens * kRowBytes;
  static constexpr int kStageBytes = kWeightBytes + kTokenBytes;
  static constexpr int kThreads = (kGroups + 1) * 128;
  static constexpr std::size_t kShared = static_cast<std::size_t>(kStages) * kStageBytes + 1024 + 2 * 8 * kStages;
  static constexpr int kResident = kShared <= 112 * 1024 && !(kFp8 && kColumns == 128) ? 2 : 1;
};

__device__ __forceinline__ float silu(float x) {
  return x / (1.0F + exp2_fast(-1.4426950408889634F * x));
}

__device__ __forceinline__ void store(const Params& p, int row, int token, float value) {
  if (p.bias != nullptr) value += p.bias[row];
  const std::size_t at =
      static_cast<std::size_t>(token) * static_cast<std::size_t>(p.stride) + static_cast<std::size_t>(row);
  if (p.epilogue == Epilogue::bf16) {
    static_cast<Bf16*>(p.out)[at] = __float2bfloat16_rn(value);
  } else if (p.epilogue == Epilogue::f32) {
    static_cast<float*>(p.out)[at] = value;
  } else {
    static_cast<float*>(p.out)[at] += value;
  }
}

/// One warpgroup's 64 rows × kColumns tokens to memory.
template <int kColumns>
__device__ __forceinline__ void store_tile(const Params& p, const float (&d)[kColumns / 2], int first_row,
                                           int first_token) {
  const int warp = static_cast<int>(threadIdx.x % 128U) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row = first_row + 16 * warp + lane / 4;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = first_token + 8 * j + 2 * (lane % 4) + c;
      if (token >= p.t) continue;
      const float factor = p.row_scale != nullptr ? p.row_scale[token] : 1.0F;
      const float low = d[4 * j + c] * factor, high = d[4 * j + 2 + c] * factor;
      if (p.epilogue == Epilogue::swiglu) {
        const int column = first_row / 2 + 8 * warp + lane / 4;
        if (2 * column < p.n) {
          static_cast<Bf16*>(p.out)[static_cast<std::size_t>(token) * static_cast<std::size_t>(p.stride) +
                                    static_cast<std::size_t>(column)] = __float2bfloat16_rn(silu(low) * high);
        }
      } else {
        if (row < p.n) store(p, row, token, low);
        if (row + 8 < p.n) store(p, row + 8, token, high);
      }
    }
  }
}

template <typename S>
__device__ __forceinline__ void feed(const CUtensorMap* weight, const CUtensorMap* tokens, const Params& p,
                                     std::uint8_t* stages, std::uint64_t* full, std::uint64_t* empty, int k_steps,
                                     int step_elements, int stage_count, int token_box) {
  const int row = static_cast<int>(blockIdx.y) * S::kTileRows, token = static_cast<int>(blockIdx.x) * S::kTileTokens;
  const auto load_weight = [&](int step, int stage) {
    std::uint8_t* out = stages + stage * S::kStageBytes;
    barrier_expect(&full[stage], S::kStageBytes);
    copy_box(out, weight, step * step_elements, row, &full[stage], p.weight_policy);
  };
  const auto load_tokens = [&](int step, int stage) {
    std::uint8_t* out = stages + stage * S::kStageBytes + S::kWeightBytes;
    for (int part = 0; part < S::kTileTokens / token_box; ++part) {
      copy_box(out + part * token_box * kRowBytes, tokens, step * step_elements, token + part * token_box, &full[stage],
               kEvictLast);
    }
  };
  const int ahead = k_steps < stage_count ? k_steps : stage_count;
  for (int step = 0; step < ahead; ++step) load_weight(step, step);
  wait_for_previous();
  for (int step = 0; step < ahead; ++step) load_tokens(step, step);
  int stage = 0, phase = 0;
  for (int step = ahead; step < k_steps; ++step) {
    barrier_wait(&empty[stage], static_cast<std::uint32_t>(phase));
    load_weight(step, stage);
    load_tokens(step, stage);
    if (++stage == stage_count) stage = 0, phase ^= 1;
  }
}

template <bool kFp8, int kColumns, int kN, int kM, int kGroups, int kStages>
__global__ void __launch_bounds__(Shape<kFp8, kColumns, kN, kM, kGroups, kStages>::kThreads,
                                  Shape<kFp8, kColumns, kN, kM, kGroups, kStages>::kResident)
    matmul_kernel(const __grid_constant__ CUtensorMap weight, const __grid_constant__ CUtensorMap tokens,
                  const Params p) {
  using S = Shape<kFp8, kColumns, kN, kM, kGroups, kStages>;
  constexpr int kStepElements = kFp8 ? 128 : 64;
  extern __shared__ std::uint8_t raw[];
  std::uint8_t* stages = raw + (1024U - (shared_address(raw) & 1023U)) % 1024U;
  auto* full = reinterpret_cast<std::uint64_t*>(stages + kStages * S::kStageBytes);
  std::uint64_t* empty = full + kStages;
  const int group = static_cast<int>(threadIdx.x) / 128, warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x == 0) {
    prefetch_map(&weight);
    prefetch_map(&tokens);
    for (int s = 0; s < kStages; ++s) {
      barrier_init(&full[s], 1);
      barrier_init(&empty[s], kGroups * 4);
    }
    barrier_init_fence();
  }
  __syncthreads();
  launch_dependents();
  const int k_steps = (p.k + kStepElements - 1) / kStepElements;

  if (group == kGroups) {
    if constexpr (kGroups == 2) fewer_registers<40>();
    if (warp == kGroups * 4 && threadIdx.x % 32U == 0) {
      feed<S>(&weight, &tokens, p, stages, full, empty, k_steps, kStepElements, kStages, kColumns);
    }
  } else {
    if constexpr (kGroups == 2) more_registers<232>();
    float total[kM][kN][kColumns / 2];
    const bool leader = threadIdx.x % 32U == 0;
    const int first_row = static_cast<int>(blockIdx.y) * S::kTileRows + group * 64 * kM;
    const std::uint32_t base = shared_address(stages);
    int stage = 0, phase = 0, previous = -1;
    if constexpr (kFp8) {
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int i = 0; i < kColumns / 2; ++i) total[m][0][i] = 0.0F;
    }
    for (int step = 0; step < k_steps; ++step) {
      const std::uint32_t weights_at =
          base + static_cast<std::uint32_t>(stage * S::kStageBytes + group * 64 * kM * kRowBytes);
      const std::uint32_t tokens_at = base + static_cast<std::uint32_t>(stage * S::kStageBytes + S::kWeightBytes);
      if constexpr (kFp8) {
        float low[kM], high[kM];
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          const int tile = min(first_row / 64 + m, (p.n + 63) / 64 - 1);
          low[m] = __ldg(p.scale + (2 * tile) * p.k_blocks + step);
          high[m] = __ldg(p.scale + (2 * tile + 1) * p.k_blocks + step);
        }
        barrier_wait(&full[stage], static_cast<std::uint32_t>(phase));
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          float part[kColumns / 2];
          products_begin();
#pragma unroll
          for (int kk = 0; kk < 4; ++kk) {
            Product<true, kColumns>::run(
                part, operand_descriptor(weights_at + static_cast<std::uint32_t>(m * 64 * kRowBytes + kk * 32)),
                operand_descriptor(tokens_at + static_cast<std::uint32_t>(kk * 32)), kk > 0);
          }
          products_commit();
          products_wait<0>();
          if (m == kM - 1 && leader) barrier_arrive(&empty[stage]);
#pragma unroll
          for (int i = 0; i < kColumns / 2; ++i) {
            total[m][0][i] = __fmaf_rn(part[i], (i & 2) != 0 ? high[m] : low[m], total[m][0][i]);
          }
        }
      } else {
        barrier_wait(&full[stage], static_cast<std::uint32_t>(phase));
        products_begin();
#pragma unroll
        for (int kk = 0; kk < 4; ++kk) {
#pragma unroll
          for (int m = 0; m < kM; ++m) {
#pragma unroll
            for (int n = 0; n < kN; ++n) {
              Product<false, kColumns>::run(
                  total[m][n],
                  operand_descriptor(weights_at + static_cast<std::uint32_t>(m * 64 * kRowBytes + kk * 32)),
                  operand_descriptor(tokens_at + static_cast<std::uint32_t>(n * kColumns * kRowBytes + kk * 32)),
                  step > 0 || kk > 0);
            }
          }
        }
        products_commit();
        products_wait<1>();
        if (previous >= 0 && leader) barrier_arrive(&empty[previous]);
        previous = stage;
      }
      if (++stage == kStages) stage = 0, phase ^= 1;
    }
    products_wait<0>();
    wait_for_previous();
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        store_tile<kColumns>(p, total[m][n], first_row + 64 * m,
                             static_cast<int>(blockIdx.x) * S::kTileTokens + n * kColumns);
      }
    }
  }
}

template <bool kFp8, int kColumns, int kN, int kM, int kGroups, int kStages>
void run(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream) {
  using S = Shape<kFp8, kColumns, kN, kM, kGroups, kStages>;
  auto* kernel = matmul_kernel<kFp8, kColumns, kN, kM, kGroups, kStages>;
  static const cudaError_t ready = cudaFuncSetAttribute(
      reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(S::kShared));
  (void)ready;
  const dim3 grid(static_cast<unsigned>((t + S::kTileTokens - 1) / S::kTileTokens),
                  static_cast<unsigned>((weight.n + S::kTileRows - 1) / S::kTileRows));
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
                      grid.x == 1 ? kEvictFirst : kEvictNormal};
  const int weight_map = S::kTileRows == 64 ? 0 : S::kTileRows == 128 ? 1 : 2;
  const int token_map = kColumns == 8 ? 0 : kColumns == 16 ? 1 : kColumns == 32 ? 2 : kColumns == 64 ? 3 : 4;
  launch(kernel, grid, dim3(S::kThreads), S::kShared, stream, weight.map[weight_map], input.map[token_map], params);
}

template <bool kFp8>
void run_tile(const Matrix& weight, const Activations& input, int t, const MatmulOut& out, cudaStream_t stream,
              int tile) {
  switch (tile) {
    case 0:
      return run<kFp8, 8, 1, 1, 1, 11>(weight, input, t, out, stream);
    case 1:
      return run<kFp8, 16, 1, 1, 1, 10>(weight, input, t, out, stream);
    case 2:
      return run<kFp8, 32, 1, 1, 1, 8>(weight, input, t, out, stream);
    case 3:
      return run<kFp8, 64, 1, 1, 1, 6>(weight, input, t, out, stream);
    case 4:
      return run < kFp8, 128, 1, 1, 1, kFp8 ? 8 : 4 > (weight, input, t, out, stream);
    case 5:
      return run<kFp8, 128, 1, 1, 2, 6>(weight, input, t, out, stream);
    default:
      return run < kFp8, 128, kFp8 ? 1 : 2, kFp8 ? 2 : 1, 2, 4 > (weight, input, t, out, stream);
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
  return make_map(matrix.map[0], matrix.data, matrix.fp8, matrix.n, matrix.k, 64) &&
         make_map(matrix.map[1], matrix.data, matrix.fp8, matrix.n, matrix.k, 128) &&
         make_map(matrix.map[2], matrix.data, matrix.fp8, matrix.n, matrix.k, 256);
}

bool make_maps(Activations& activations) {
  bool good = true;
  for (int i = 0; i < 5; ++i) {
    good = good && make_map(activations.map[i], activations.data, activations.fp8, activations.rows, activations.k,
                            kOperandRows[i]);
  }
  return good;
}

int choose_tile(bool fp8, int n, int k, int t, int multiprocessors) {
  (void)k;
  if (t <= 8) return 0;
  if (t <= 16) return 1;
  if (t <= 32) return 2;
  if (t <= 64) return 3;
  const auto blocks = [&](int rows, int tokens) { return ((n + rows - 1) / rows) * ((t + tokens - 1) / tokens); };
  if (t <= 128 || blocks(128, 128) < multiprocessors) return 4;
  const int large = fp8 ? blocks(256, 128) : blocks(128, 256);
  return large < multiprocessors ? 5 : 6;
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
