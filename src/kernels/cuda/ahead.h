// Weights that come into the cache before they are needed: which ones, as plain values.
#pragma once

namespace hp::cuda {

/// Weights that a step will read soon: brought into the L2 cache while a short kernel leaves the memory idle. A hint:
/// no result depends on it.
struct Ahead {
  static constexpr int kRanges = 4;
  const void* data[kRanges] = {};
  unsigned bytes[kRanges] = {};  ///< multiples of 16
  int count = 0;
};

}  // namespace hp::cuda
