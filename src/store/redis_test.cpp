#include "store/redis.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <future>
#include <thread>

#include "base/log.h"
#include "store/late_server.h"
#include "store/test_redis.h"

namespace hp::store {
namespace {
using namespace std::chrono_literals;

class RedisTest : public testing::Test {
 protected:
  void SetUp() override {
    log::configure({.level = log::Level::off});
    if (!TestRedis::installed()) GTEST_SKIP() << "redis-server is not installed";
    server_ = std::make_unique<TestRedis>();
    auto made = Redis::create({.address = server_->address(), .timeout = 3000ms}, metrics_);
    ASSERT_TRUE(made) << made.error().message;
    redis_ = *std::move(made);
    ASSERT_TRUE(becomes(true));
  }
  bool becomes(bool here) {
    for (int i = 0; i < 12'000 && redis_->available() != here; ++i) std::this_thread::sleep_for(10ms);
    return redis_->available() == here;
  }
  Result<Reply> ask(std::vector<std::string> words) {
    auto answer = std::make_shared<std::promise<Result<Reply>>>();
    redis_->send(std::move(words), [answer](Result<Reply> reply) { answer->set_value(std::move(reply)); });
    return answer->get_future().get();
  }
  double metric(const std::string& name) {
    const std::string page = metrics_.render();
    const auto at = page.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(page.substr(at + name.size() + 2));
  }

  MetricsRegistry metrics_;
  std::unique_ptr<TestRedis> server_;
  std::unique_ptr<Redis> redis_;
};

TEST_F(RedisTest, EveryKindOfReply) {
  EXPECT_EQ(ask({"SET", "k", std::string("a\0b", 3)})->text, "OK");
  EXPECT_EQ(ask({"GET", "k"})->text, std::string("a\0b", 3));
  EXPECT_EQ(ask({"GET", "none"})->kind, Reply::Kind::nil);
  EXPECT_EQ(ask({"INCRBY", "n", "41"})->integer, 41);
  const auto list = ask({"MGET", "k", "n"});
  ASSERT_EQ(list->list.size(), 2U);
  EXPECT_EQ(list->list[1].text, "41");
  const auto error = ask({"INCR", "k"});
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().code, ErrorCode::invalid_argument);
  EXPECT_TRUE(redis_->available()) << "a refused command is no fault of the server";
}

TEST_F(RedisTest, RepliesKeepTheirOrderInOnePipeline) {
  std::promise<void> done;
  std::atomic<int> next{0};
  bool ordered = true;
  for (int i = 0; i < 3000; ++i)
    redis_->send({"ECHO", std::to_string(i)}, [&, i](const Result<Reply>& reply) {
      ordered = ordered && reply && reply->text == std::to_string(i);
      if (++next == 3000) done.set_value();
    });
  done.get_future().get();
  EXPECT_TRUE(ordered);
}

TEST_F(RedisTest, FrozenCommandsFailAndItComesBack) {
  server_->freeze();
  const auto late = ask({"PING"});
  ASSERT_FALSE(late);
  EXPECT_TRUE(becomes(false));
  EXPECT_FALSE(ask({"PING"})) << "at once, without asking";
  const double changes = metric("homeport_redis_state_changes_total");
  std::this_thread::sleep_for(600ms);
  EXPECT_EQ(metric("homeport_redis_state_changes_total"), changes) << "vain probes change nothing";
  server_->thaw();
  ASSERT_TRUE(becomes(true));
  EXPECT_TRUE(ask({"PING"}));
  EXPECT_EQ(metric("homeport_redis_state_changes_total"), changes + 1);
}

TEST_F(RedisTest, KilledAndStartedAgain) {
  server_->kill();
  EXPECT_FALSE(ask({"PING"}));
  EXPECT_TRUE(becomes(false));
  server_->start();
  ASSERT_TRUE(becomes(true));
  EXPECT_EQ(ask({"SET", "a", "b"})->text, "OK");
}

TEST_F(RedisTest, TheQueueIsBounded) {
  server_->freeze();
  std::atomic<std::size_t> failed{0};
  for (std::size_t i = 0; i < kMaxQueuedCommands + 2 * kMaxPipelined + 10; ++i)
    redis_->send({"PING"}, [&](const Result<Reply>& reply) { failed += reply ? 0 : 1; });
  EXPECT_TRUE(becomes(false));
  redis_->stop();
  EXPECT_EQ(failed.load(), kMaxQueuedCommands + 2 * kMaxPipelined + 10) << "every handler was called, once";
}

TEST(RedisLate, StaysAwayInsteadOfComingAndGoing) {
  log::configure({.level = log::Level::off});
  MetricsRegistry metrics;
  LateServer server(300ms);  // later than a command may last, but within the limit of both halves
  auto redis = Redis::create({.address = server.address(), .timeout = 400ms}, metrics);
  ASSERT_TRUE(redis) << redis.error().message;
  for (int i = 0; i < 6000 && server.clients() < 3; ++i) std::this_thread::sleep_for(10ms);
  ASSERT_GE(server.clients(), 3) << "it is tried again and again";
  EXPECT_FALSE((*redis)->available());
  EXPECT_NE(metrics.render().find("\nhomeport_redis_state_changes_total 1\n"), std::string::npos);
  (*redis)->stop();
}

TEST(RedisLate, IsSeenAfterSomeLateAnswersInARow) {
  MetricsRegistry metrics;
  LateServer server(2 * kLate);
  auto redis = Redis::create({.address = server.address(), .timeout = 10s}, metrics);
  ASSERT_TRUE(redis) << redis.error().message;
  while (!(*redis)->available()) std::this_thread::sleep_for(1ms);
  for (int i = 0; i < kLateRun; ++i) {
    EXPECT_FALSE((*redis)->late()) << i;
    std::promise<bool> answered;
    (*redis)->send({"PING"}, [&](const Result<Reply>& reply) { answered.set_value(reply.has_value()); });
    ASSERT_TRUE(answered.get_future().get());
  }
  while (!(*redis)->late()) std::this_thread::sleep_for(1ms);  // counted after the answer was given
  server.set_pause(0ms);
  while ((*redis)->late()) {  // one answer in time is enough
    std::promise<void> answered;
    (*redis)->send({"PING"}, [&](const Result<Reply>&) { answered.set_value(); });
    answered.get_future().get();
  }
  (*redis)->stop();
}

TEST(RedisAddress, IsChecked) {
  MetricsRegistry metrics;
  for (const char* text : {"", "host", "host:", "host:0", "host:70000", ":6379", "host:6x"})
    EXPECT_FALSE(Redis::create({.address = text}, metrics)) << text;
}

}  // namespace
}  // namespace hp::store
