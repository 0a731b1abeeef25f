// One Idempotency-Key at two gateways is one generation; killed gateways and a Redis that goes cost no client its
// answer.
#include "gateway/flight_board.h"

#include "gateway/test_gateway.h"
#include "store/test_redis.h"

namespace hp::gateway {
namespace {

// Two gateways that both see the Redis of the test.
class TwoGateways : public GatewayTest {
 protected:
  void SetUp() override {
    GatewayTest::SetUp();
    start(30s);
  }
  void start(milliseconds lease) {
    if (!store::TestRedis::installed()) GTEST_SKIP() << "redis-server is not installed";
    one_.reset();
    two_.reset();
    nodes_.clear();
    node_options_.clear();
    redis_ = std::make_unique<store::TestRedis>();
    add_node({.token_pace = 10ms});
    const double before = metric("homeport_redis_state_changes_total");
    GatewayOptions options;
    options.redis = redis_->address();
    options.redis_timeout = 5s;  // on a loaded machine
    options.lease = lease;
    one_ = start_gateway(options);
    two_ = start_gateway(options);
    for (int i = 0; i < 12'000 && metric("homeport_redis_state_changes_total") < before + 2; ++i)
      std::this_thread::sleep_for(10ms);
  }
  void TearDown() override {
    one_.reset();
    two_.reset();
  }
  // At the first gateway; returns when its client has so many events. `then` goes on from there, at `then_at`.
  std::future<Seen> begin(const std::string& body, std::size_t events, std::size_t then_at = 0,
                          const std::function<void()>& then = {}) {
    auto begun = std::make_shared<std::promise<void>>();
    auto first = std::async(std::launch::async, [this, body, events, then_at, then, begun, port = one_->port()] {
      return run(
          port, body,
          [&](std::size_t count, Seen&) {
            if (count == events) begun->set_value();
            if (then && count == then_at) then();
          },
          kKey);
    });
    begun->get_future().wait();
    return first;
  }
  std::uint64_t generated() { return nodes_[0]->stats().requests; }
  net::HttpResponse whole(std::uint16_t port, const std::string& body) {
    auto answer = client_->fetch(
        {.method = "POST", .port = port, .target = "/v1/chat/completions", .headers = kKey, .body = body});
    EXPECT_TRUE(answer);
    return answer ? *std::move(answer) : net::HttpResponse{};
  }
  static inline const net::Headers kKey{{"Idempotency-Key", "order-3"}};
  std::unique_ptr<store::TestRedis> redis_;
  std::unique_ptr<Gateway> one_, two_;
};

TEST_F(TwoGateways, AnIdempotencyKeyInFlightAtOneIsFollowedAtTheOther) {
  const LongChat chat = long_chat(150, R"(,"n":2)");
  auto first = begin(chat.body, 5);
  EXPECT_EQ(run(two_->port(), chat_body(3), {}, kKey).status, 422) << "the key with another request";
  const Seen second = run(two_->port(), chat.body, {}, kKey), along = first.get();
  expect_whole(second, 150, chat.seed, 2);
  EXPECT_EQ(second.cache, "joined");
  EXPECT_EQ(second.stream, along.stream);
  ASSERT_EQ(second.events.size(), along.events.size());
  EXPECT_EQ(second.events.back().data, along.events.back().data);
  EXPECT_EQ(generated(), 1u);
  EXPECT_EQ(run(two_->port(), chat.body, {}, kKey).cache, "hit");
  EXPECT_EQ(generated(), 1u);
}

TEST_F(TwoGateways, AnAnswerThatIsNoStreamIsWaitedFor) {
  std::string body = long_chat(100).body;
  body.replace(body.find("true"), 4, "false");
  auto first = std::async(std::launch::async, [&] { return whole(one_->port(), body); });
  for (int i = 0; i < 24'000 && generated() == 0; ++i) std::this_thread::sleep_for(5ms);
  const auto second = whole(two_->port(), body);
  EXPECT_EQ(second.status, 200);
  EXPECT_EQ(second.body, first.get().body);
  EXPECT_EQ(generated(), 1u);
}

TEST_F(TwoGateways, AFollowerGoesOnWhenTheOwnerDies) {
  start(3s);
  const LongChat chat = long_chat(200);
  nodes_[0]->fault("slow", 600s, 5);  // who follows is there in time
  auto first = begin(chat.body, 5, 80, [&] {
    one_.reset();
    nodes_[0]->fault("none", 0ms);
  });
  const Seen second = run(two_->port(), chat.body, {}, kKey);
  EXPECT_FALSE(first.get().done);
  expect_whole(second, 200, chat.seed);
  EXPECT_EQ(nodes_[0]->stats().resumes, 1u) << "from the journal, not from the beginning";
  EXPECT_EQ(metric("homeport_idempotency_taken_over_total"), 1);
  EXPECT_EQ(run(two_->port(), chat.body, {}, kKey).cache, "hit") << "and it is kept as if nothing had happened";
}

TEST_F(TwoGateways, WithoutRedisEachHasItsOwn) {
  const LongChat chat = long_chat(100);
  redis_->kill();
  for (int i = 0; i < 12'000 && metric("homeport_redis_state_changes_total") < 4; ++i) {
    run(one_->port(), chat_body(1), {}, {{"Idempotency-Key", std::to_string(i)}});
    run(two_->port(), chat_body(1), {}, {{"Idempotency-Key", std::to_string(i)}});
  }
  const auto before = generated();
  auto first = begin(chat.body, 5);
  expect_whole(run(two_->port(), chat.body, {}, kKey), 100, chat.seed);
  expect_whole(first.get(), 100, chat.seed);
  EXPECT_EQ(generated() - before, 2u);
}

TEST_F(TwoGateways, AFollowerThatLosesRedisGoesOnByItself) {
  start(1s);
  const LongChat chat = long_chat(200);
  auto first = begin(chat.body, 5);
  const Seen second = run(
      two_->port(), chat.body,
      [&](std::size_t count, Seen&) {
        if (count == 20) redis_->kill();
      },
      kKey);
  expect_whole(second, 200, chat.seed);
  expect_whole(first.get(), 200, chat.seed);
}

}  // namespace
}  // namespace hp::gateway
