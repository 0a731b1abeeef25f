#include "kernels/cuda/experts.h"

#include "kernels/cuda/choose.cuh"
#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {
namespace {

/// One warp per token. `direct`: every chosen expert of a token becomes a group of its own.
__global__ void __launch_bounds__(32)
    choose_kernel(const float* logits, const float* bias, RouterShape shape, bool direct, Grouping g) {
  launch_dependents();
  wait_for_previous();
  __shared__ float scratch[kMostExperts];
  const int lane = static_cast<int>(threadIdx.x), token = static_cast<int>(blockIdx.x);
  const Chosen choice = choose_experts(
      logits + static_cast<std::size_t>(token) * static_cast<std::size_t>(shape.experts), bias, shape, scratch);
  if (lane >= shape.chosen) return;
  const int slot = token * shape.chosen + lane;
  g.expert[slot] = choice.expert;
  g.weight[slot] = choice.weight;
  if (!direct) return;
  g.slot[slot] = slot;
  g.tiles[slot] = direct_group(choice.expert, slot, token);
  if (slot == 0) *g.tile_count = static_cast<int>(gridDim.x) * shape.chosen;
}

inline constexpr int kGroupThreads = 1024;

/// One block: counts, offsets, slots and tiles. Which slot of its expert a token gets does not matter to any result.
__global__ void __launch_bounds__(kGroupThreads)
    group_kernel(int experts, int entries, int chosen, int columns, Grouping g) {
  launch_dependents();
  wait_for_previous();
  __shared__ int count[kMostExperts], next[kMostExperts], tiles[kMostExperts];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kMostExperts) count[thread] = 0;
  __syncthreads();
  for (int i = thread; i < entries; i += kGroupThreads) atomicAdd(&count[g.expert[i]], 1);
  __syncthreads();
  if (thread == 0) {
    int slot = 0, tile = 0;
    for (int e = 0; e < experts; ++e) {
      next[e] = slot, tiles[e] = tile;
      slot += count[e], tile += (count[e] + columns - 1) / columns;
    }
    *g.tile_count = tile;
  }
  __syncthreads();
  for (int e = thread; e < experts; e += kGroupThreads) {
    const int first = next[e];
    for (int i = 0; i * columns < count[e]; ++i) {
      g.tiles[tiles[e] + i] = make_int4(e, first + i * columns, min(first + (i + 1) * columns, first + count[e]), 0);
    }
  }
  __syncthreads();
  for (int i = thread; i < entries; i += kGroupThreads) {
    const int slot = atomicAdd(&next[g.expert[i]], 1);
    g.slot[i] = slot;
    g.token[slot] = i / chosen;
  }
}

__global__ void gather_kernel(const uint4* in, const float* in_scale, const int* token, int vectors, uint4* out,
                              float* out_scale) {
  launch_dependents();
  wait_for_previous();
  const auto from = static_cast<std::size_t>(token[blockIdx.x]);
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += static_cast<int>(blockDim.x)) {
    out[static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(vectors) + static_cast<std::size_t>(i)] =
        in[from * static_cast<std::size_t>(vectors) + static_cast<std::size_t>(i)];
  }
  if (threadIdx.x == 0 && out_scale != nullptr) out_scale[blockIdx.x] = in_scale[from];
}

__global__ void combine_kernel(const Bf16* y, const int* slot, const float* weight, int chosen, int hidden, float* x) {
  launch_dependents();
  wait_for_previous();
  const std::size_t first = static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(chosen);
  auto* out = reinterpret_cast<float2*>(x + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(hidden));
  for (int i = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x); i < hidden / 2;
       i += static_cast<int>(gridDim.y * blockDim.x)) {
    float2 sum = out[i];
#pragma unroll 4
    for (int k = 0; k < chosen; ++k) {
      const float w = weight[first + static_cast<std::size_t>(k)];
      const auto* row = reinterpret_cast<const __nv_bfloat162*>(
          y + static_cast<std::size_t>(slot[first + static_cast<std::size_t>(k)]) * static_cast<std::size_t>(hidden));
      const float2 v = __bfloat1622float2(row[i]);
      sum = make_float2(__fmaf_rn(v.x, w, sum.x), __fmaf_rn(v.y, w, sum.y));
    }
    out[i] = sum;
  }
}

}  // namespace

void route(const float* logits, const float* bias, const RouterShape& shape, int t, int columns,
           const Grouping& grouping, cudaStream_t stream) {
  const bool direct = columns == 0;
  launch(choose_kernel, dim3(static_cast<unsigned>(t)), dim3(32), 0, stream, logits, bias, shape, direct, grouping);
  if (direct) return;
  launch(group_kernel, dim3(1), dim3(kGroupThreads), 0, stream, shape.experts, t * shape.chosen, shape.chosen, columns,
         grouping);
}

void gather_rows(const Activations& in, const int* token, int slots, const Activations& out, cudaStream_t stream) {
  const int vectors = in.k * (in.fp8 ? 1 : 2) / 16;
  launch(gather_kernel, dim3(static_cast<unsigned>(slots)), dim3(128), 0, stream, static_cast<const uint4*>(in.data),
         static_cast<const float*>(in.row_scale), token, vectors, static_cast<uint4*>(out.data), out.row_scale);
}

void combine(const Bf16* y, const Grouping& grouping, int chosen, int t, int hidden, float* x, cudaStream_t stream) {
  // Few tokens: a pair of elements a thread, since one block a token would take turns over them.
  const unsigned parts = t <= 16 ? static_cast<unsigned>((hidden / 2 + 255) / 256) : 1U;
  launch(combine_kernel, dim3(static_cast<unsigned>(t), parts), dim3(256), 0, stream, y,
         static_cast<const int*>(grouping.slot), static_cast<const float*>(grouping.weight), chosen, hidden, x);
}

}  // namespace hp::cuda
