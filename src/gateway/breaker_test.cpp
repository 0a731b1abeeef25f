#include "gateway/breaker.h"

#include <gtest/gtest.h>

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

TEST(Breaker, ClassesOfStatus) {
  for (const int status : {200, 400, 401, 404, 413, 422}) EXPECT_EQ(classify(status), Outcome::success) << status;
  for (const int status : {429, 503}) EXPECT_EQ(classify(status), Outcome::back_pressure) << status;
  for (const int status : {500, 502, 504}) EXPECT_EQ(classify(status), Outcome::failure) << status;
}

TEST(Breaker, AFloodOfClientMistakesAndBackPressureNeverOpensIt) {
  Breaker breaker;
  TimePoint now{};
  for (int i = 0; i < 10'000; ++i) {
    breaker.report(classify(i % 3 == 0 ? 400 : i % 3 == 1 ? 429 : 503), now);
    now += 1ms;
  }
  EXPECT_EQ(breaker.state(now), BreakerState::closed);
}

TEST(Breaker, OpensOnAStreakAndOnAShareOfFailures) {
  Breaker streak, share;
  TimePoint now{};
  for (int i = 0; i < 1000; ++i) streak.report(Outcome::success, now);
  for (int i = 0; i < 3; ++i) streak.report(Outcome::failure, now);
  EXPECT_EQ(streak.state(now), BreakerState::open);
  for (int i = 0; i < 5; ++i) {
    share.report(Outcome::success, now);
    EXPECT_EQ(share.state(now), BreakerState::closed) << i;
    share.report(Outcome::failure, now);
  }
  EXPECT_EQ(share.state(now), BreakerState::open);
}

TEST(Breaker, OldFailuresAreForgotten) {
  Breaker breaker;
  TimePoint now{};
  for (int i = 0; i < 20; ++i) {
    breaker.report(Outcome::failure, now);
    breaker.report(Outcome::success, now + 1s);
    now += 60s;
  }
  EXPECT_EQ(breaker.state(now), BreakerState::closed);
}

TEST(Breaker, HalfOpenLetsOneProbeThroughAndItsReportDecides) {
  Breaker breaker;
  TimePoint now{};
  breaker.trip(now);
  EXPECT_FALSE(breaker.acquire(now));
  now += 600ms;
  EXPECT_EQ(breaker.state(now), BreakerState::half_open);
  EXPECT_TRUE(breaker.acquire(now));
  EXPECT_FALSE(breaker.acquire(now)) << "a second request while the probe is out";
  breaker.report(Outcome::failure, now);
  EXPECT_FALSE(breaker.allows(now + 900ms)) << "the pause doubles";
  now += 1100ms;
  EXPECT_TRUE(breaker.acquire(now));
  breaker.report(Outcome::success, now);
  EXPECT_EQ(breaker.state(now), BreakerState::closed);
  EXPECT_TRUE(breaker.acquire(now));
  EXPECT_TRUE(breaker.acquire(now));
}

TEST(Breaker, AProbeThatNeverReportsOrMeetsAFullNodeGivesItsPlaceBack) {
  Breaker breaker;
  TimePoint now{};
  breaker.trip(now);
  now += 1s;
  EXPECT_TRUE(breaker.acquire(now));
  breaker.report(Outcome::back_pressure, now);
  EXPECT_TRUE(breaker.acquire(now));
  EXPECT_FALSE(breaker.acquire(now + 1s));
  EXPECT_TRUE(breaker.acquire(now + 11s));
}

TEST(Breaker, ThePauseIsBoundedAndLateReportsDoNotExtendIt) {
  Breaker breaker;
  TimePoint now{};
  for (int i = 0; i < 40; ++i) {
    breaker.trip(now);
    breaker.report(Outcome::failure, now);
    now += 15s;
    EXPECT_TRUE(breaker.acquire(now)) << i;
    breaker.report(Outcome::failure, now);
  }
}

}  // namespace
}  // namespace hp::gateway
