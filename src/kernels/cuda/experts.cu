#include "kernels/cuda/experts.h"

#include "kernels/cuda/kernel_launch.cuh"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {
namespace {

inline constexpr int kEach = kMostExperts / 32;  // experts of a lane: lane, lane + 32, …

/// The largest value over the warp and its index; the lower index wins ties. Lanes give their own best.
__device__ __forceinline__ void warp_best(float& value, int& index) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(0xFFFFFFFFU, value, step);
    const int place = __shfl_xor_sync(0xFFFFFFFFU, index, step);
    if (other > value || (other == value && place < index)) value = other, index = place;
  }
}

/// Masks the experts of groups that are not chosen. `choice` is what selects.
__device__ __forceinline__ void limit_groups(float (&choice)[kEach], const RouterShape& shape, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % 32, size = shape.experts / shape.groups;
#pragma unroll
  for (int i = 0; i < kEach; ++i) scores[lane + 32 * i] = choice[i];
  __syncwarp();
  float score = -INFINITY;
  if (lane < shape.groups) {
    float best = -INFINITY, second = -INFINITY;
    for (int e = lane * size; e < (lane + 1) * size; ++e) {
      const float s = scores[e];
      if (s > best)
        second = best, best = s;
      else if (s > second)
        second = s;
    }
    score = shape.best_two ? best + second : best;
  }
  unsigned allowed = 0;
  for (int g = 0; g < shape.chosen_groups; ++g) {
    float value = score;
    int index = lane;
    warp_best(value, index);
    allowed |= 1U << index;
    if (lane == index) score = -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int e = lane + 32 * i;
    if (e < shape.experts && (allowed >> (e / size) & 1U) == 0) choice[i] = -INFINITY;
  }
}

/// One warp per token. `direct`: every chosen expert of a token becomes a group of its own.
__global__ void __launch_bounds__(32)
    choose_kernel(const float* logits, const float* bias, RouterShape shape, bool direct, Grouping g) {
  launch_dependents();
  wait_for_previous();
  __shared__ float scratch[kMostExperts];
  const int lane = static_cast<int>(threadIdx.x);
  const float* in = logits + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(shape.experts);
  float score[kEach], choice[kEach];
  float peak = -INFINITY, sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    score[i] = lane + 32 * i < shape.experts ? in[lane + 32 * i] : -INFINITY;
    peak = fmaxf(peak, score[i]);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) peak = fmaxf(peak, __shfl_xor_sync(0xFFFFFFFFU, peak, step));
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (score[i] == -INFINITY) continue;
    score[i] = shape.sigmoid ? 1.0F / (1.0F + expf(-score[i])) : expf(score[i] - peak);
    sum += score[i];
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, step);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (!shape.sigmoid && score[i] != -INFINITY) score[i] /= sum;
    choice[i] = lane + 32 * i < shape.experts ? score[i] + (bias != nullptr ? bias[lane + 32 * i] : 0.0F) : -INFINITY;
  }
  if (shape.groups > 1) limit_groups(choice, shape, scratch);
  float mine = 0.0F, total = 0.0F;
  int chosen = 0;
  for (int k = 0; k < shape.chosen; ++k) {
    float value = -INFINITY;
    int index = kMostExperts;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (choice[i] > value) value = choice[i], index = lane + 32 * i;
    }
    warp_best(value, index);
    float own = 0.0F;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (lane + 32 * i == index) own = score[i], choice[i] = -INFINITY;
    }
    own = __shfl_sync(0xFFFFFFFFU, own, index % 32);
    total += own;
    if (lane == k) mine = own, chosen = index;
  }
  if (lane < shape.chosen) {
    const std::size_t at =
        static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(shape.chosen) + static_cast<std::size_t>(lane);
    if (shape.normalize) mine /= total + 1e-20F;
    g.expert[at] = chosen;
    g.weight[at] = mine * shape.weight_scale;
    if (direct) {
      const int slot = static_cast<int>(at);
      g.slot[at] = slot;
      g.tiles[at] = make_int4(chosen, slot, slot + 1, static_cast<int>(blockIdx.x));
      if (slot == 0) *g.tile_count = static_cast<int>(gridDim.x) * shape.chosen;
    }
  }
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
  for (int i = static_cast<int>(threadIdx.x); i < hidden / 2; i += static_cast<int>(blockDim.x)) {
    float2 sum = out[i];
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
  launch(combine_kernel, dim3(static_cast<unsigned>(t)), dim3(256), 0, stream, y,
         static_cast<const int*>(grouping.slot), static_cast<const float*>(grouping.weight), chosen, hidden, x);
}

}  // namespace hp::cuda
