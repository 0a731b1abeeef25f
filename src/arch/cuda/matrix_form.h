// The forms of weights as the kernels know them.
#pragma once

#include "arch/cuda/plugin_api.h"
#include "kernels/cuda/launch.h"

namespace hp::cuda {

constexpr bool is_int(WeightType weights) {
  return weights == WeightType::int8 || weights == WeightType::int4;
}

/// What a matrix of the layers is held as.
inline void set_form(Matrix& matrix, WeightType weights, int group) {
  matrix.fp8 = weights == WeightType::fp8;
  if (is_int(weights)) matrix.ints = {weights == WeightType::int8 ? 8 : 4, group};
}

}  // namespace hp::cuda
