#include "arch/cpu/error_feedback.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace hp {
namespace {

constexpr std::size_t kRows = 40, kColumns = 96, kTokens = 300;

std::vector<float> noise(std::size_t count, std::uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> dist;
  std::vector<float> v(count);
  for (float& x : v) x = dist(rng);
  return v;
}

/// Inputs of few directions and some noise: what a model's hidden states are like.
std::vector<float> correlated_inputs() {
  constexpr std::size_t kDirections = 6;
  const std::vector<float> a = noise(kTokens * kDirections, 1), b = noise(kDirections * kColumns, 2);
  std::vector<float> x = noise(kTokens * kColumns, 3);
  for (std::size_t t = 0; t < kTokens; ++t) {
    for (std::size_t c = 0; c < kColumns; ++c) {
      x[t * kColumns + c] *= 0.1F;
      for (std::size_t d = 0; d < kDirections; ++d) x[t * kColumns + c] += a[t * kDirections + d] * b[d * kColumns + c];
    }
  }
  return x;
}

std::vector<float> gram_of(const std::vector<float>& x) {
  std::vector<float> gram(kColumns * kColumns);
  for (std::size_t i = 0; i < kColumns; ++i) {
    for (std::size_t j = 0; j < kColumns; ++j) {
      double sum = 0.0;
      for (std::size_t t = 0; t < kTokens; ++t) sum += static_cast<double>(x[t * kColumns + i]) * x[t * kColumns + j];
      gram[i * kColumns + j] = static_cast<float>(sum);
    }
  }
  return gram;
}

double output_error(const std::vector<float>& x, const std::vector<float>& w, const std::vector<float>& rounded) {
  double sum = 0.0;
  for (std::size_t t = 0; t < kTokens; ++t) {
    for (std::size_t r = 0; r < kRows; ++r) {
      double y = 0.0;
      for (std::size_t c = 0; c < kColumns; ++c)
        y += static_cast<double>(w[r * kColumns + c] - rounded[r * kColumns + c]) * x[t * kColumns + c];
      sum += y * y;
    }
  }
  return std::sqrt(sum);
}

class ErrorFeedbackTest : public testing::Test {
 protected:
  ParallelTeam team{2};
  FloatProducts products{kernels::kernel_table(kernels::Isa::ref), team};
  const std::vector<float> x = correlated_inputs(), gram = gram_of(x), w = noise(kRows * kColumns, 4);
};

TEST_F(ErrorFeedbackTest, SolvesAgainstTheDampedMoments) {
  const auto made = ErrorFeedback::make(gram, kColumns, 0.01, products);
  ASSERT_TRUE(made) << made.error().message;
  std::vector<float> back(w.size());
  made->solve(w.data(), kRows, back.data());
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t c = 0; c < kColumns; ++c) {
      double sum = static_cast<double>(made->damped()) * back[r * kColumns + c];
      for (std::size_t m = 0; m < kColumns; ++m)
        sum += static_cast<double>(back[r * kColumns + m]) * gram[m * kColumns + c];
      ASSERT_NEAR(sum, w[r * kColumns + c], 2e-3) << r << " " << c;
    }
  }
}

TEST_F(ErrorFeedbackTest, EveryFormatLosesFarLessThanToNearest) {
  const auto made = ErrorFeedback::make(gram, kColumns, 0.01, products);
  ASSERT_TRUE(made) << made.error().message;
  for (const WeightStorage storage : {WeightStorage::fp8, WeightStorage::int8, WeightStorage::int4}) {
    WeightGrid grid(storage, kColumns, 32);
    grid.fit(w);
    std::vector<float> nearest(w.size()), fed(w.size(), 99.0F);
    for (std::size_t i = 0; i < w.size(); ++i) nearest[i] = grid.nearest(i / kColumns, i % kColumns, w[i]);
    made->round(w, grid, 0, fed.data(), kColumns);
    for (std::size_t i = 0; i < w.size(); ++i)
      ASSERT_EQ(grid.nearest(i / kColumns, i % kColumns, fed[i]), fed[i]) << "a value of the grid";
    EXPECT_LT(output_error(x, w, fed), 0.4 * output_error(x, w, nearest)) << to_string(storage);
  }
}

TEST_F(ErrorFeedbackTest, UncorrelatedInputsAreRoundedToNearest) {
  std::vector<float> apart(kColumns * kColumns);
  for (std::size_t i = 0; i < kColumns; ++i) apart[i * kColumns + i] = 1.0F + static_cast<float>(i % 7);
  const auto made = ErrorFeedback::make(apart, kColumns, 0.01, products);
  ASSERT_TRUE(made) << made.error().message;
  WeightGrid grid(WeightStorage::fp8, kColumns, 0);
  grid.fit(w);
  std::vector<float> fed(w.size());
  made->round(w, grid, 0, fed.data(), kColumns);
  for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(fed[i], grid.nearest(i / kColumns, i % kColumns, w[i])) << i;
}

}  // namespace
}  // namespace hp
