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

}  // namespace hp::cuda
