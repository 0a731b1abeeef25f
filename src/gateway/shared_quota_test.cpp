#include "gateway/shared_quota.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/log.h"
#include "gateway/limits.h"
#include "store/test_redis.h"

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

class SharedQuotaTest : public testing::Test {
 protected:
  struct Side {
    Side(const std::string& address, std::string name, ManualClock& c) : clock(c), admission(c, metrics) {
      redis = *store::Redis::create({.address = address, .timeout = 2000ms}, metrics);
      admission.configure(*parse_tenants(
          "[[tenant]]\nname='t'\nkeys=['k']\nrequests_per_minute=10\ntokens_per_minute=1000\nconcurrent=8\n", ""));
      quota = std::make_unique<SharedQuota>(*redis, admission, clock, std::move(name), metrics);
    }
    ~Side() { redis->stop(); }
    Side(const Side&) = delete;
    Side& operator=(const Side&) = delete;
    int enter(std::int64_t tokens = 1) { return admission.enter("Bearer k", tokens).status; }
    int enter_all(std::int64_t tokens = 1) {
      int let_in = 0;
      while (let_in < 100 && enter(tokens) == 200) ++let_in;
      return let_in;
    }
    ManualClock& clock;
    MetricsRegistry metrics;
    Admission admission;
    std::unique_ptr<store::Redis> redis;
    std::unique_ptr<SharedQuota> quota;
  };
  void SetUp() override {
    log::configure({.level = log::Level::off});
    if (!store::TestRedis::installed()) GTEST_SKIP() << "redis-server is not installed";
    server_ = std::make_unique<store::TestRedis>();
    clock_.advance(1h);
    a_ = std::make_unique<Side>(server_->address(), "a", clock_);
    b_ = std::make_unique<Side>(server_->address(), "b", clock_);
    wait_available(true);
    round();
  }
  void wait_available(bool there) {
    for (auto* side : {a_.get(), b_.get()})
      for (int i = 0; i < 12'000 && side->redis->available() != there; ++i) {
        side->redis->send({"PING"});
        std::this_thread::sleep_for(10ms);
      }
  }
  // Each tells and hears, twice, so that both have heard of all that was taken before.
  void round() {
    for (int i = 0; i < 2; ++i)
      for (auto* side : {a_.get(), b_.get()}) {
        const double before = side->metrics.counter("homeport_gateway_quota_rounds_total", "").value();
        clock_.advance(kQuotaSync);
        side->quota->sync(clock_.now());
        const auto& rounds = side->metrics.counter("homeport_gateway_quota_rounds_total", "");
        for (int k = 0; k < 60'000 && rounds.value() == before; ++k) std::this_thread::sleep_for(2ms);
        ASSERT_GT(rounds.value(), before);
      }
  }
  ManualClock clock_;
  std::unique_ptr<store::TestRedis> server_;
  std::unique_ptr<Side> a_, b_;
};

TEST_F(SharedQuotaTest, RequestsPerMinuteCountOverBothGateways) {
  for (int i = 0; i < 6; ++i) ASSERT_EQ(a_->enter(), 200);
  for (int i = 0; i < 6; ++i) a_->admission.leave("t", 1, 1);
  round();
  EXPECT_EQ(b_->enter_all(), 4);
  round();
  EXPECT_EQ(a_->enter(), 429);
}

TEST_F(SharedQuotaTest, TokensAndWhatIsGivenBackCountToo) {
  ASSERT_EQ(a_->enter(900), 200);
  round();
  EXPECT_EQ(b_->enter(200), 429);
  a_->admission.leave("t", 900, 100);
  round();
  EXPECT_EQ(b_->enter(200), 200);
}

TEST_F(SharedQuotaTest, OpenRequestsCountOverBoth) {
  for (int i = 0; i < 5; ++i) ASSERT_EQ(a_->enter(), 200);
  round();
  EXPECT_EQ(b_->enter_all(), 3);
  for (int i = 0; i < 5; ++i) a_->admission.leave("t", 1, 1);
  round();
  EXPECT_EQ(b_->enter(), 200);
}

TEST_F(SharedQuotaTest, WithoutRedisEachHasItsShare) {
  server_->kill();
  wait_available(false);
  for (auto* side : {a_.get(), b_.get()}) {
    clock_.advance(kQuotaSync);
    side->quota->sync(clock_.now());
    EXPECT_EQ(side->enter_all(), 4) << "half of 8 at once";
    for (int i = 0; i < 4; ++i) side->admission.leave("t", 1, 1);
    EXPECT_EQ(side->enter_all(), 1) << "half of 10 a minute";
    side->admission.leave("t", 1, 1);
  }
  server_->start();
  wait_available(true);
  round();
  clock_.advance(1min);
  EXPECT_EQ(b_->enter_all(), 8) << "the whole limit again";
}

}  // namespace
}  // namespace hp::gateway
