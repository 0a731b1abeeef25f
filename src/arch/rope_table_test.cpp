#include "arch/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hp {
namespace {

RopeConfig plain() {
  RopeConfig c;
  c.theta = 10000.0F;
  c.dims = 8;
  return c;
}

TEST(RopeTable, PlainFrequenciesFallByPowersOfTheta) {
  const auto f = rope_frequencies(plain());
  ASSERT_EQ(f.size(), 4U);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[1], 0.1, 1e-12);
  EXPECT_NEAR(f[3], 0.001, 1e-12);
}

TEST(RopeTable, TableHoldsCosinesOfPositionTimesFrequency) {
  const RopeTable t = build_rope_table(plain(), 5);
  EXPECT_EQ(t.pairs, 4);
  EXPECT_EQ(t.cos_at(0)[3], 1.0F);
  EXPECT_FLOAT_EQ(t.cos_at(4)[1], std::cos(0.4F));
  EXPECT_FLOAT_EQ(t.sin_at(4)[0], std::sin(4.0F));
}

TEST(RopeTable, LinearDividesEveryFrequency) {
  RopeConfig c = plain();
  c.scaling = RopeConfig::Scaling::linear;
  c.factor = 4.0F;
  const auto f = rope_frequencies(c);
  EXPECT_DOUBLE_EQ(f[0], 0.25);
  EXPECT_NEAR(f[2], 0.0025, 1e-12);
}

TEST(RopeTable, Llama3KeepsShortWavesAndStretchesLongOnes) {
  RopeConfig c = plain();
  c.scaling = RopeConfig::Scaling::llama3;
  c.factor = 8.0F;
  c.original_context = 256;  // waves: 6.3 | 62.8 | 628 | 6283; kept below 64, stretched above 256
  const auto f = rope_frequencies(c);
  EXPECT_DOUBLE_EQ(f[0], 1.0);
  EXPECT_NEAR(f[1], 0.1, 1e-12);
  EXPECT_NEAR(f[2], 0.01 / 8.0, 1e-12);
  c.original_context = 128;  // the second wave now lies between 32 and 128: (128 / 62.83 − 1) / 3 of it is kept
  const double keep = (128.0 * 0.1 / (2.0 * M_PI) - 1.0) / 3.0;
  EXPECT_NEAR(rope_frequencies(c)[1], (1.0 - keep) * 0.1 / 8.0 + keep * 0.1, 1e-12);
}

TEST(RopeTable, DivisorsFromTheFileReplaceTheLlama3Rule) {
  RopeConfig c = plain();
  c.scaling = RopeConfig::Scaling::llama3;
  c.factor = 8.0F;
  c.original_context = 256;
  c.frequency_divisors = {1.0F, 2.0F, 4.0F, 8.0F};
  const auto f = rope_frequencies(c);
  EXPECT_NEAR(f[1], 0.05, 1e-12);
  EXPECT_NEAR(f[3], 0.000125, 1e-12);
}

TEST(RopeTable, YarnStretchesSlowPairsAndRaisesTheMagnitude) {
  RopeConfig c = plain();
  c.dims = 64;
  c.scaling = RopeConfig::Scaling::yarn;
  c.factor = 40.0F;
  c.original_context = 4096;
  const auto f = rope_frequencies(c);
  EXPECT_DOUBLE_EQ(f[0], 1.0);                                                  // turns often: kept
  EXPECT_NEAR(f[31], std::pow(10000.0, -62.0 / 64.0) / 40.0, 1e-12);            // never turns once: stretched
  EXPECT_NEAR(f[16], 0.01 / 40.0 * (6.0 / 13.0) + 0.01 * (7.0 / 13.0), 1e-12);  // ramp from pair 10 to pair 23
  EXPECT_NEAR(rope_magnitude(c), 0.1 * std::log(40.0) + 1.0, 1e-12);
  EXPECT_NEAR(build_rope_table(c, 1).cos[0], 1.3688879F, 1e-6F);
  c.mscale = c.mscale_all_dim = 0.707F;  // DeepSeek V2: the two cancel
  EXPECT_DOUBLE_EQ(rope_magnitude(c), 1.0);
  c.attention_factor = 2.0F;
  EXPECT_DOUBLE_EQ(rope_magnitude(c), 2.0);
}

}  // namespace
}  // namespace hp
