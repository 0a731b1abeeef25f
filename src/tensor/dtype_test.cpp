#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/buffer.h"
#include "tensor/tensor_view.h"

namespace hp {
namespace {

TEST(DType, EveryF16ValueSurvivesARoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float v = f16_to_f32(static_cast<std::uint16_t>(bits));
    if (std::isnan(v)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(v))));
    } else {
      ASSERT_EQ(f32_to_f16(v), bits) << v;
    }
  }
}

TEST(DType, F16AgreesWithTheCompilersOwnType) {
  for (std::uint64_t i = 0; i < 2'000'000; ++i) {
    const auto bits = static_cast<std::uint32_t>(i * 2654435761U);
    float v = 0;
    std::memcpy(&v, &bits, 4);
    if (std::isnan(v)) continue;
    const auto expected = static_cast<_Float16>(v);
    std::uint16_t expected_bits = 0;
    std::memcpy(&expected_bits, &expected, 2);
    ASSERT_EQ(f32_to_f16(v), expected_bits) << v;
  }
}

TEST(DType, EveryBf16AndF8ValueSurvivesARoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float v = bf16_to_f32(static_cast<std::uint16_t>(bits));
    if (std::isnan(v)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(v))));
    } else {
      ASSERT_EQ(f32_to_bf16(v), bits);
    }
  }
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    const float v = f8_e4m3_to_f32(static_cast<std::uint8_t>(bits));
    if (!std::isnan(v)) {
      ASSERT_EQ(f32_to_f8_e4m3(v), bits) << v;
    }
  }
}

TEST(DType, F8RoundsToTheNearestAndSaturates) {
  EXPECT_EQ(f8_e4m3_to_f32(f32_to_f8_e4m3(1e9F)), 448.0F);
  EXPECT_EQ(f8_e4m3_to_f32(f32_to_f8_e4m3(-500.0F)), -448.0F);
  EXPECT_TRUE(std::isnan(f8_e4m3_to_f32(f32_to_f8_e4m3(NAN))));
  EXPECT_EQ(f32_to_f8_e4m3(INFINITY), 0x7E);
  EXPECT_EQ(f32_to_f8_e4m3(0x1p-10F), 0x00);  // a tie goes to even: zero
  EXPECT_EQ(f32_to_f8_e4m3(0x1.8p-9F), 0x02);
  EXPECT_EQ(f32_to_f8_e4m3(1e-45F), 0x00);  // the smallest f32
  EXPECT_EQ(f32_to_f8_e4m3(-0.0F), 0x80);
  for (float v = -460.0F; v < 460.0F; v += 0.0137F) {
    const float got = f8_e4m3_to_f32(f32_to_f8_e4m3(v));
    float best = 1e9F;
    for (std::uint32_t bits = 0; bits < 256; ++bits) {
      const float candidate = f8_e4m3_to_f32(static_cast<std::uint8_t>(bits));
      if (std::isfinite(candidate)) best = std::min(best, std::fabs(candidate - v));
    }
    ASSERT_EQ(std::fabs(got - v), best) << v;
  }
}

TEST(DType, NamesAndSizes) {
  EXPECT_EQ(dtype_from_name("q4_k"), DType::q4_k);
  EXPECT_EQ(dtype_from_name("q9"), std::nullopt);
  EXPECT_EQ(storage_bytes(DType::q4_1, 64), 40U);
  EXPECT_EQ(Shape({2, 3}).to_string(), "[2, 3]");
  EXPECT_EQ(Shape({2, 3}).elements(), 6);
}

TEST(ShapeDeathTest, ElementsThatOverflowAreABug) {
  EXPECT_EQ(Shape({std::int64_t{1} << 31, std::int64_t{1} << 31}).elements(), std::int64_t{1} << 62);
  EXPECT_DEATH((void)Shape({std::int64_t{1} << 32, std::int64_t{1} << 32}).elements(), "too many elements");
}

TEST(Buffer, IsZeroedAndMoves) {
  auto buffer = Buffer::allocate(5 << 20);
  ASSERT_TRUE(buffer.has_value());
  EXPECT_EQ(buffer->as<int>()[1'000'000], 0);
  Buffer moved = std::move(*buffer);
  EXPECT_EQ(moved.size(), 5U << 20);
  EXPECT_FALSE(Buffer::allocate(std::size_t{1} << 60).has_value());
}

}  // namespace
}  // namespace hp
