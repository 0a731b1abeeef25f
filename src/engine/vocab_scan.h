// Passes over one row of the vocabulary that the sampler needs: maximum, weights, the best k. Vector code without
// instruction sets of its own and without reassociation: every machine gets the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace hp {

struct ScoredToken {
  TokenId token = 0;
  float score = 0.0F;
};

/// The largest value and its first place; NaN counts as nothing. Token -1 when nothing is above -inf.
ScoredToken best_of(std::span<const float> row);

/// Weights exp((row - best) / temperature) by token, with their sums by blocks of kWeightBlock tokens.
inline constexpr std::size_t kWeightBlock = 64;
struct WeightRow {
  std::vector<float> weights;  ///< [vocab, padded to whole blocks]; 0 for what is negligible or no number
  std::vector<double> sums;    ///< [blocks], each summed in four lanes
  double total = 0.0;          ///< in order of block
};
/// Weights below about e^-40 of the best are 0: less than the last bit of a random number.
void weigh(std::span<const float> row, float best, float temperature, WeightRow& out);

/// The `count` best, best first, ties by lowest id; fewer when fewer are above -inf.
void best_tokens(std::span<const float> row, std::size_t count, std::vector<ScoredToken>& out);

}  // namespace hp
