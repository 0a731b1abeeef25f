#include "model/quantize_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tensor/dtype.h"

namespace hp {
namespace {

std::vector<float> noise(std::size_t count, float size) {
  std::mt19937 rng(3);
  std::normal_distribution<float> dist(0.0F, size);
  std::vector<float> v(count);
  for (float& x : v) x = dist(rng);
  return v;
}

TEST(QuantizeFp8, ScalesEachBlockToItsLargest) {
  std::vector<float> w = noise(5 * 300, 0.02F);
  w[7] = -3.0F;
  std::vector<std::uint8_t> q(w.size());
  std::vector<float> scales(3);
  const QuantError e = quantize_fp8(w, 300, q, scales);
  EXPECT_FLOAT_EQ(scales[0], 3.0F / 448.0F);
  EXPECT_EQ(q[7], 0xFE) << "-448";
  for (std::size_t i = 0; i < w.size(); ++i) {
    const float scale = scales[i % 300 / 128];
    // half a unit of three mantissa bits, or of the subnormals' step 2^-9
    EXPECT_NEAR(f8_e4m3_to_f32(q[i]) * scale, w[i], std::abs(w[i]) / 16 + scale * 0x1p-10F) << i;
  }
  EXPECT_GT(e.error, 0.0);
  EXPECT_LT(std::sqrt(e.error / e.size), 0.04);
  std::vector<float> nothing(128);
  EXPECT_EQ(quantize_fp8(nothing, 128, q, scales).error, 0.0);
}

TEST(QuantizeInt4, PacksEightToAWordAndBeatsTheFullRange) {
  std::vector<float> exact(32);
  for (std::size_t i = 0; i < 32; ++i) exact[i] = (static_cast<float>(i % 16) - 8.0F) * 0.5F;
  std::vector<std::uint32_t> words(4);
  std::vector<std::uint16_t> scales(1);
  EXPECT_EQ(quantize_int4(exact, 32, {}, words, scales).error, 0.0);
  EXPECT_EQ(words[0], 0x76543210U);
  EXPECT_EQ(words[3], 0xFEDCBA98U);
  EXPECT_EQ(bf16_to_f32(scales[0]), 0.5F);

  const std::vector<float> w = noise(512, 0.02F);
  words.resize(64);
  scales.resize(8);
  const QuantError searched = quantize_int4(w, 64, {}, words, scales);
  double full = 0.0;
  for (std::size_t g = 0; g < 8; ++g) {
    float high = 0.0F, low = 0.0F;
    for (std::size_t i = g * 64; i < g * 64 + 64; ++i) {
      high = std::max(high, w[i]);
      low = std::min(low, w[i]);
    }
    const float s = std::max(high / 7.0F, -low / 8.0F);
    for (std::size_t i = g * 64; i < g * 64 + 64; ++i) {
      const float v = std::nearbyint(w[i] / s) * s;
      full += static_cast<double>(v - w[i]) * (v - w[i]);
    }
  }
  EXPECT_LT(searched.error, full * 0.97);
}

TEST(QuantizeInt4, ImportanceMovesTheErrorAway) {
  const std::vector<float> w = noise(128, 0.02F);
  std::vector<float> importance(128, 0.01F);
  for (std::size_t i = 0; i < 128; i += 4) importance[i] = 10.0F;
  std::vector<std::uint32_t> words(16);
  std::vector<std::uint16_t> plain(2), weighted(2);
  const auto error_of_important = [&](std::span<const std::uint16_t> scales) {
    double e = 0;
    for (std::size_t i = 0; i < 128; i += 4) {
      const int q = static_cast<int>(words[i / 8] >> (4 * (i % 8)) & 15U) - 8;
      const float d = static_cast<float>(q) * bf16_to_f32(scales[i / 64]) - w[i];
      e += static_cast<double>(d) * d;
    }
    return e;
  };
  quantize_int4(w, 64, {}, words, plain);
  const double before = error_of_important(plain);
  quantize_int4(w, 64, importance, words, weighted);
  EXPECT_LT(error_of_important(weighted), before);
}

TEST(QuantizeInt8, HasOneScalePerRow) {
  const std::vector<float> w = {1.27F, -0.5F, 0.0F, 0.004F};
  std::vector<std::int8_t> q(4);
  float scale = 0.0F;
  const QuantError e = quantize_int8(w, q, scale);
  EXPECT_FLOAT_EQ(scale, 0.01F);
  EXPECT_EQ(q, (std::vector<std::int8_t>{127, -50, 0, 0}));
  EXPECT_NEAR(e.error, 0.004 * 0.004, 1e-9);
}

}  // namespace
}  // namespace hp
