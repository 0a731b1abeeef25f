#include "gateway/hedging.h"

#include <gtest/gtest.h>

#include "gateway/limits.h"

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

TEST(Hedging, LateIsTheSlowestTwentieth) {
  Hedging hedging(0.02);
  for (std::size_t i = 0; i + 1 < kHedgeMinSamples; ++i) hedging.note_first_token(1ms);
  EXPECT_FALSE(hedging.late()) << "too few to know";
  for (int i = 0; i <= 256; ++i) hedging.note_first_token(i * 1ms);
  EXPECT_EQ(hedging.late(), Duration(244ms));
}

TEST(Hedging, NoMoreThanItsShare) {
  Hedging hedging(0.02), off(0);
  int taken = 0;
  for (int i = 0; i < 10'000; ++i) {
    hedging.on_request();
    if (hedging.take()) ++taken;
  }
  EXPECT_LE(taken, 201);
  EXPECT_GE(taken, 199);
  off.on_request();
  EXPECT_FALSE(off.on() || off.take());
}

}  // namespace
}  // namespace hp::gateway
