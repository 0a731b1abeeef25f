// How a token chooses its experts: one warp, the same bits wherever it runs.
#pragma once

#include "kernels/cuda/experts.h"
#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {

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

/// A lane's share of the choice: lane i has the i-th expert and its weight, for i < shape.chosen.
struct Chosen {
  int expert;
  float weight;
};

/// logits [experts]; scratch: kMostExperts floats of shared memory of this warp's own.
__device__ __forceinline__ Chosen choose_experts(const float* logits, const float* bias, const RouterShape& shape,
                                                 float* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float score[kEach], choice[kEach];
  float peak = -INFINITY, sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    score[i] = lane + 32 * i < shape.experts ? logits[lane + 32 * i] : -INFINITY;
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
  if (shape.normalize) mine /= total + 1e-20F;
  return {chosen, mine * shape.weight_scale};
}

/// Without grouping, every chosen expert of a token is a group of its own: slot token · chosen + i.
__device__ __forceinline__ int4 direct_group(int expert, int slot, int token) {
  return make_int4(expert, slot, slot + 1, token);
}

}  // namespace hp::cuda
