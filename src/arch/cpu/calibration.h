// How large the inputs of every matrix are on a text: what importance-weighted rounding needs. Goes through the model
// layer by layer, so that memory holds one layer's weights and the text's hidden states, not the model.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "kernels/kernel_table.h"
#include "model/checkpoint.h"

namespace hp {

/// Canonical name of a matrix [n, k] to the mean square of each of its k inputs; 1 is what all of them average. A
/// matrix that met too few tokens to tell is not in it. kv_b is never in it: the absorbed form has no product with it.
using Importance = std::map<std::string, std::vector<float>, std::less<>>;

struct CalibrationOptions {
  kernels::Isa isa = kernels::Isa::ref;
  int threads = 1;
  std::function<void(std::size_t done, std::size_t total)> progress;  ///< layers; may be empty
};

/// `windows` are texts of their own, each at most the model's context.
Result<Importance> measure_importance(const Checkpoint& checkpoint, std::span<const std::vector<TokenId>> windows,
                                      const CalibrationOptions& options);

}  // namespace hp
