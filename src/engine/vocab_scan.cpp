#include "engine/vocab_scan.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace hp {
namespace {

constexpr std::size_t kLanes = 4;
using Floats = float __attribute__((vector_size(kLanes * sizeof(float))));
using Doubles = double __attribute__((vector_size(kLanes * sizeof(double))));
using Ints = std::int32_t __attribute__((vector_size(kLanes * sizeof(float))));

constexpr float kNegligible = -40.0F;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// e^x for -41 <= x <= 0, to about one unit in the last place: Cephes expf (S. Moshier), range reduction to
/// [-ln2/2, ln2/2] and a polynomial of degree 5. exp(0) is exactly 1.
Floats exp_of(Floats x) {
  constexpr float kShift = 12582912.0F;  // 1.5 · 2^23: adding it rounds to a whole number
  const Floats shifted = x * 1.44269504F + kShift;
  const Floats n = shifted - kShift;
  const Floats r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Floats p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

bool better(const ScoredToken& a, const ScoredToken& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

}  // namespace

ScoredToken best_of(std::span<const float> row) {
  Floats most = Floats{} + kLowest;
  std::size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    const Floats v = load(row.data() + i);
    most = v > most ? v : most;  // false for NaN
  }
  float best = kLowest;
  for (std::size_t lane = 0; lane < kLanes; ++lane) best = most[lane] > best ? most[lane] : best;
  for (; i < row.size(); ++i) best = row[i] > best ? row[i] : best;
  if (best == kLowest) return {.token = -1, .score = kLowest};
  return {.token = static_cast<TokenId>(std::ranges::find(row, best) - row.begin()), .score = best};
}

void weigh(std::span<const float> row, float best, float temperature, WeightRow& out) {
  const std::size_t blocks = (row.size() + kWeightBlock - 1) / kWeightBlock;
  out.weights.assign(blocks * kWeightBlock, 0.0F);
  out.sums.assign(blocks, 0.0);
  const float scale = 1.0F / std::max(temperature, 1e-6F);
  out.total = 0.0;
  for (std::size_t b = 0; b < blocks; ++b) {
    Doubles sums{};
    const std::size_t end = std::min((b + 1) * kWeightBlock, row.size());
    for (std::size_t i = b * kWeightBlock; i < end; i += kLanes) {
      Floats v = Floats{} + kLowest;
      std::memcpy(&v, row.data() + i, std::min(kLanes, end - i) * sizeof(float));
      const Floats x = (v - best) * scale;
      const Ints counts = x >= kNegligible;  // false for NaN and -inf
      const Floats safe = counts ? x : Floats{};
      const Floats weight = counts ? exp_of(safe) : Floats{};
      std::memcpy(out.weights.data() + i, &weight, sizeof weight);
      sums += __builtin_convertvector(weight, Doubles);
    }
    out.sums[b] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    out.total += out.sums[b];
  }
}

void best_tokens(std::span<const float> row, std::size_t count, std::vector<ScoredToken>& out) {
  out.clear();
  if (count == 0) return;
  // A heap whose top is the worst of the best; most tokens fall at the first comparison. A later token never beats an
  // equal earlier one.
  for (std::size_t t = 0; t < row.size(); ++t) {
    if (!(row[t] > kLowest)) continue;
    const ScoredToken candidate{.token = static_cast<TokenId>(t), .score = row[t]};
    if (out.size() < count) {
      out.push_back(candidate);
      std::ranges::push_heap(out, better);
    } else if (candidate.score > out.front().score) {
      std::ranges::pop_heap(out, better);
      out.back() = candidate;
      std::ranges::push_heap(out, better);
    }
  }
  std::ranges::sort(out, better);
}

}  // namespace hp
