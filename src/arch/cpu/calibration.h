// Rounds a model's matrices by a text: goes through the forward pass matrix by matrix, with the original and the model
// as rounded so far side by side (rounding_pass.h). Memory holds stripes of one matrix, whatever the model's size; the
// text's hidden states spill into the store's folder.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "kernels/kernel_table.h"
#include "model/checkpoint.h"
#include "model/quantize_plan.h"
#include "model/rounded_store.h"

namespace hp {

struct CalibrationOptions {
  kernels::Isa isa = kernels::Isa::ref;
  int threads = 1;
  std::function<void(std::size_t done, std::size_t total)> progress;  ///< bytes of weights; may be empty
};

/// Rounds every matrix of the plan that tokens of the windows meet, also of the prediction layer, but an embedding that
/// is not the head as well. `windows` are texts of their own, each at most the model's context. The checkpoint is a
/// Hugging Face folder's. What the store has already is taken as it is.
Status calibrate(const Checkpoint& checkpoint, const QuantizePlan& plan, std::span<const std::vector<TokenId>> windows,
                 const RoundedStore& store, const CalibrationOptions& options);

}  // namespace hp
