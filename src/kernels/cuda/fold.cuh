// The fold of partial attention results, shared by every attention kernel: same operations, same bits.
#pragma once

#include "kernels/cuda/ptx.cuh"

namespace hp::cuda {

/// Of one row: the greatest score so far (in powers of two) and the sum of powers below it.
struct Running {
  float peak, sum;
};

/// Factors that bring an old and a new partial result to a common maximum; a part without keys changes nothing.
__device__ __forceinline__ void fold_factors(Running& row, float peak, float sum, float& keep, float& add) {
  if (peak == -INFINITY) {
    keep = 1.0F, add = 0.0F;
    return;
  }
  const float top = fmaxf(row.peak, peak);
  keep = exp2_fast(row.peak - top);
  add = exp2_fast(peak - top);
  row.sum = __fmaf_rn(row.sum, keep, __fmul_rn(sum, add));
  row.peak = top;
}
__device__ __forceinline__ float fold(float old, float keep, float part, float add) {
  return add == 0.0F && keep == 1.0F ? old : __fmaf_rn(old, keep, __fmul_rn(part, add));
}

/// Four neighbouring elements of one row's parts, folded in order: parts [count] of `dims` floats, `stride` rows apart,
/// from row `first`; peaks {peak, sum} of the same rows. Four parts are under way at once, past the first cache, since
/// other thread blocks wrote them.
__device__ __forceinline__ float4 fold_parts(const float* parts, const float* peaks, std::size_t first, int count,
                                             int stride, int dims, int dim, Running& row) {
  row = {-INFINITY, 0.0F};
  float4 total = make_float4(0, 0, 0, 0);
  for (int r = 0; r < count; r += 4) {
    float4 v[4];
    float2 p[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::size_t at = first + static_cast<std::size_t>(min(r + i, count - 1)) * static_cast<std::size_t>(stride);
      p[i] = __ldcg(reinterpret_cast<const float2*>(peaks + 2 * at));
      v[i] = __ldcg(reinterpret_cast<const float4*>(parts + at * static_cast<std::size_t>(dims) + dim));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (r + i >= count) break;
      float keep, add;
      fold_factors(row, p[i].x, p[i].y, keep, add);
      total = make_float4(fold(total.x, keep, v[i].x, add), fold(total.y, keep, v[i].y, add),
                          fold(total.z, keep, v[i].z, add), fold(total.w, keep, v[i].w, add));
    }
  }
  return total;
}
/// The folded row as bf16.
__device__ __forceinline__ uint2 folded_bf16(const float4& total, const Running& row) {
  return make_uint2(pack_bf16(__fdiv_rn(total.x, row.sum), __fdiv_rn(total.y, row.sum)),
                    pack_bf16(__fdiv_rn(total.z, row.sum), __fdiv_rn(total.w, row.sum)));
}

}  // namespace hp::cuda
