// Where a row of a checkpoint's matrix lies in the device's: gate and up rows interleave by 8.
#pragma once

#include "kernels/cuda/launch.h"

namespace hp::cuda {

__device__ __forceinline__ std::size_t placed_row(int row, RowPlace place) {
  if (place == RowPlace::plain) return static_cast<std::size_t>(row);
  return static_cast<std::size_t>(row / 8 * 16 + row % 8 + (place == RowPlace::up ? 8 : 0));
}

}  // namespace hp::cuda
