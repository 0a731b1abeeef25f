#include "model/quantize_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tensor/dtype.h"

namespace hp {
namespace {

struct Stored {
  std::vector<float> rounded;
  std::vector<std::byte> values, scales;
  double error = 0.0;
  template <typename T>
  [[nodiscard]] T scale(std::size_t i) const {
    T v;
    std::memcpy(&v, scales.data() + i * sizeof(T), sizeof(T));
    return v;
  }
};

Stored round_to_nearest(WeightStorage storage, const std::vector<float>& w, std::size_t k, std::int64_t group = 0,
                        std::span<const float> importance = {}) {
  WeightGrid grid(storage, static_cast<std::int64_t>(k), group);
  grid.fit(w, importance);
  Stored out;
  QuantError e;
  for (std::size_t i = 0; i < w.size(); ++i) {
    out.rounded.push_back(grid.nearest(i / k, i % k, w[i]));
    e.add(w[i], out.rounded.back());
  }
  out.error = e.error;
  out.values.resize(grid.value_bytes(w.size() / k));
  out.scales.resize(grid.scale_bytes(w.size() / k));
  grid.store(out.rounded, out.values, out.scales);
  std::vector<float> back(w.size());
  WeightGrid(storage, static_cast<std::int64_t>(k), group).load(out.values, out.scales, back);
  EXPECT_EQ(back, out.rounded) << "what is stored is what was rounded to";
  return out;
}

std::vector<float> noise(std::size_t count, float size) {
  std::mt19937 rng(3);
  std::normal_distribution<float> dist(0.0F, size);
  std::vector<float> v(count);
  for (float& x : v) x = dist(rng);
  return v;
}

TEST(WeightGridFp8, ScalesEachBlockToItsLargest) {
  std::vector<float> w = noise(5 * 300, 0.02F);
  w[7] = -3.0F;
  const Stored s = round_to_nearest(WeightStorage::fp8, w, 300);
  EXPECT_FLOAT_EQ(s.scale<float>(0), 3.0F / 448.0F);
  EXPECT_EQ(s.values[7], std::byte{0xFE}) << "-448";
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto scale = s.scale<float>(i % 300 / 128);
    // half a unit of three mantissa bits, or of the subnormals' step 2^-9
    EXPECT_NEAR(s.rounded[i], w[i], std::abs(w[i]) / 16 + scale * 0x1p-10F) << i;
  }
  EXPECT_GT(s.error, 0.0);
  EXPECT_EQ(round_to_nearest(WeightStorage::fp8, std::vector<float>(128), 128).error, 0.0);
}

TEST(WeightGridFp8, BeyondTheLargestIsTheLargest) {
  const std::vector<float> w(128, 1.0F);
  WeightGrid grid(WeightStorage::fp8, 128, 0);
  grid.fit(w);
  EXPECT_FLOAT_EQ(grid.nearest(0, 5, 1.3F), 1.0F);
  EXPECT_FLOAT_EQ(grid.nearest(0, 5, -9.0F), -1.0F);
}

TEST(WeightGridInt4, PacksEightToAWordAndBeatsTheFullRange) {
  std::vector<float> exact(32);
  for (std::size_t i = 0; i < 32; ++i) exact[i] = (static_cast<float>(i % 16) - 8.0F) * 0.5F;
  const Stored s = round_to_nearest(WeightStorage::int4, exact, 32, 32);
  EXPECT_EQ(s.error, 0.0);
  std::uint32_t words[4];
  std::memcpy(words, s.values.data(), 16);
  EXPECT_EQ(words[0], 0x76543210U);
  EXPECT_EQ(words[3], 0xFEDCBA98U);
  EXPECT_EQ(bf16_to_f32(s.scale<std::uint16_t>(0)), 0.5F);

  const std::vector<float> w = noise(512, 0.02F);
  double full = 0.0;
  for (std::size_t g = 0; g < 8; ++g) {
    float high = 0.0F, low = 0.0F;
    for (std::size_t i = g * 64; i < g * 64 + 64; ++i) {
      high = std::max(high, w[i]);
      low = std::min(low, w[i]);
    }
    const float step = std::max(high / 7.0F, -low / 8.0F);
    for (std::size_t i = g * 64; i < g * 64 + 64; ++i) {
      const float v = std::nearbyint(w[i] / step) * step;
      full += static_cast<double>(v - w[i]) * (v - w[i]);
    }
  }
  EXPECT_LT(round_to_nearest(WeightStorage::int4, w, 512, 64).error, full * 0.97);
}

TEST(WeightGridInt4, ImportanceMovesTheErrorAway) {
  const std::vector<float> w = noise(128, 0.02F);
  std::vector<float> importance(128, 0.01F);
  for (std::size_t i = 0; i < 128; i += 4) importance[i] = 10.0F;
  const auto error_of_important = [&](const Stored& s) {
    double e = 0;
    for (std::size_t i = 0; i < 128; i += 4) e += static_cast<double>(s.rounded[i] - w[i]) * (s.rounded[i] - w[i]);
    return e;
  };
  EXPECT_LT(error_of_important(round_to_nearest(WeightStorage::int4, w, 128, 64, importance)),
            error_of_important(round_to_nearest(WeightStorage::int4, w, 128, 64)));
}

TEST(WeightGridInt8, HasOneScalePerRow) {
  const Stored s = round_to_nearest(WeightStorage::int8, {1.27F, -0.5F, 0.0F, 0.004F}, 4);
  EXPECT_FLOAT_EQ(s.scale<float>(0), 0.01F);
  EXPECT_EQ(s.values[0], std::byte{127});
  EXPECT_EQ(static_cast<std::int8_t>(s.values[1]), -50);
  EXPECT_EQ(s.values[2], std::byte{0});
  EXPECT_NEAR(s.error, 0.004 * 0.004, 1e-9);
}

}  // namespace
}  // namespace hp
