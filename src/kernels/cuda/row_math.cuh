// The arithmetic of a normalized or quantized row, shared by the kernels of rows.cu and by products that make their own
// input: same operations, same bits. kRowThreads threads call the functions together and meet at named barrier 1.
#pragma once

#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {

inline constexpr float kFp8Max = 448.0F;
inline constexpr int kRowThreads = 512;

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xFFFFFFFFU, value, step);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFU, value, step));
  return value;
}

/// Over the block; sums run in one fixed tree.
template <bool kMax>
__device__ __forceinline__ float block_reduce(float value) {
  __shared__ float part[kRowThreads / 32];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  value = kMax ? warp_max(value) : warp_sum(value);
  named_barrier<1, kRowThreads>();
  if (lane == 0) part[warp] = value;
  named_barrier<1, kRowThreads>();
  value = lane < kRowThreads / 32 ? part[lane] : 0.0F;
  return kMax ? warp_max(value) : warp_sum(value);
}

__device__ __forceinline__ std::uint32_t pack_fp8(float4 v) {
  const auto low = __nv_cvt_float2_to_fp8x2(make_float2(v.x, v.y), __NV_SATFINITE, __NV_E4M3);
  const auto high = __nv_cvt_float2_to_fp8x2(make_float2(v.z, v.w), __NV_SATFINITE, __NV_E4M3);
  return static_cast<std::uint32_t>(low) | (static_cast<std::uint32_t>(high) << 16);
}

/// The scale of a row whose greatest magnitude is `peak`.
__device__ __forceinline__ float scale_of_peak(float peak) {
  return fmaxf(peak, 1e-20F) / kFp8Max;
}

/// A row that the block holds as float4 vectors: thread t has vectors t, t + kRowThreads, …
template <int kVectors>
__device__ __forceinline__ void load_row(float4 (&v)[kVectors], const float* row, int vectors) {
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kRowThreads;
    v[i] = at < vectors ? reinterpret_cast<const float4*>(row)[at] : make_float4(0, 0, 0, 0);
  }
}

template <int kVectors>
__device__ __forceinline__ void norm_row(float4 (&v)[kVectors], const float4 (&w)[kVectors], int hidden, float eps) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    sum = __fmaf_rn(v[i].x, v[i].x, sum);
    sum = __fmaf_rn(v[i].y, v[i].y, sum);
    sum = __fmaf_rn(v[i].z, v[i].z, sum);
    sum = __fmaf_rn(v[i].w, v[i].w, sum);
  }
  const float factor = rsqrtf(block_reduce<false>(sum) / static_cast<float>(hidden) + eps);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    v[i] = make_float4(v[i].x * factor * w[i].x, v[i].y * factor * w[i].y, v[i].z * factor * w[i].z,
                       v[i].w * factor * w[i].w);
  }
}

/// The row's fp8 scale.
template <int kVectors>
__device__ __forceinline__ float row_scale_of(const float4 (&v)[kVectors]) {
  float peak = 0.0F;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    peak = fmaxf(peak, fmaxf(fmaxf(fabsf(v[i].x), fabsf(v[i].y)), fmaxf(fabsf(v[i].z), fabsf(v[i].w))));
  }
  return scale_of_peak(block_reduce<true>(peak));
}

__device__ __forceinline__ float4 times(float4 v, float factor) {
  return make_float4(v.x * factor, v.y * factor, v.z * factor, v.w * factor);
}

}  // namespace hp::cuda
