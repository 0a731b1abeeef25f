// Who sees what matrices are multiplied with: nobody in a step that serves, calibration.cpp in its own passes.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/thread_pool.h"
#include "kernels/params.h"

namespace hp {

/// Sees the operands of products before they are rounded to what the kernels read; calibration has one (calibration.h).
class OperandObserver {
 public:
  virtual ~OperandObserver() = default;
  /// `count` rows of k floats that meet these weights. Called by every member for its own rows and columns.
  virtual void note(const float* x, std::int32_t count, std::int32_t k, Range columns,
                    std::initializer_list<const kernels::PackedMatrix*> weights) = 0;
};

}  // namespace hp
