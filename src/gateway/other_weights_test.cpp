// A stream that has begun goes on with the weights that began it, whoever takes it up.
#include "gateway/test_gateway.h"
#include "store/test_redis.h"

namespace hp::gateway {
namespace {

// Two nodes of different weights, in turn: where a stream goes on is no accident.
class OtherWeights : public GatewayTest {
 protected:
  void SetUp() override {
    GatewayTest::SetUp();
    add_node({.token_pace = 10ms});
    FakeNodeOptions variant{.token_pace = 10ms};
    variant.identity = "fp_other";
    add_node(variant);
    options_.policy = "round-robin";
    options_.resume_timeout = 1s;
  }
  std::size_t maker() { return nodes_[0]->stats().requests > 0 ? 0 : 1; }
  void expect_rest(const Seen& whole, const Seen& rest, std::size_t kept) {
    ASSERT_TRUE(rest.done) << rest.error;
    ASSERT_EQ(rest.events.size(), whole.events.size() - kept);
    for (std::size_t i = 0; i < rest.events.size(); ++i) {
      if (!whole.text[1].empty()) continue;  // the order of several choices is free
      EXPECT_EQ(rest.events[i].id, whole.events[kept + i].id);
      EXPECT_EQ(rest.events[i].data, whole.events[kept + i].data);
    }
  }
  GatewayOptions options_;
};

TEST_F(OtherWeights, AGatewayThatNeverSawAStreamAsksOnlyTheWeightsThatItsEventIdNames) {
  const auto gateway = start_gateway(options_), other = start_gateway(options_);
  for (const std::string more : {"", R"(,"n":2)"}) {
    const std::array before{nodes_[0]->stats().requests, nodes_[1]->stats().requests};
    const Seen whole = run(gateway->port(), chat_body(30, more));
    for (const std::size_t kept : {3u, 5u, 9u, 14u})
      expect_rest(whole, run(other->port(), chat_body(30, more), {}, {{"Last-Event-ID", whole.events[kept - 1].id}}),
                  kept);
    const std::uint64_t first = nodes_[0]->stats().requests - before[0],
                        second = nodes_[1]->stats().requests - before[1];
    EXPECT_EQ(std::max(first, second), 5u);
    EXPECT_EQ(std::min(first, second), 0u) << "the other weights";
  }
}

TEST_F(OtherWeights, AStreamTakenThroughRedisGoesOnAtTheWeightsThatBeganIt) {
  if (!store::TestRedis::installed()) GTEST_SKIP() << "redis-server is not installed";
  store::TestRedis redis;
  options_.redis = redis.address();
  options_.redis_timeout = 5s;  // on a loaded machine
  auto gateway = start_gateway(options_);
  const auto other = start_gateway(options_);
  for (int i = 0; i < 12'000 && metrics_.counter("homeport_redis_state_changes_total", "").value() < 2; ++i)
    std::this_thread::sleep_for(10ms);
  const Seen begun = run(gateway->port(), long_chat(300).body, [&](std::size_t count, Seen&) {
    if (count != 60) return;
    for (auto& node : nodes_) node->fault("slow", 600s, 40);  // it is not over meanwhile
    std::this_thread::sleep_for(600ms);                       // a batch of the journal is due
    gateway.reset();
    for (auto& node : nodes_) node->fault("none", 0ms);
  });
  const std::size_t first = maker();
  ASSERT_FALSE(begun.done);
  for (int i = 0; i < 3; ++i) {  // a client that knows no event id: only the journal says whose the tokens are
    const Seen rest = run(other->port(), "", {}, {{"Last-Event-ID", fmt::format("{}:40", begun.stream)}},
                          "/v1/streams/" + begun.stream);
    EXPECT_TRUE(rest.done) << rest.error;
  }
  EXPECT_EQ(nodes_[1 - first]->stats().requests, 0u);
  EXPECT_GT(nodes_[first]->stats().resumes, 0u);
}

TEST_F(OtherWeights, WhoReadAnAnswerAlongGoesOnAtItsWeightsOnly) {
  const auto gateway = start_gateway(options_);
  const net::Headers key{{"Idempotency-Key", "k"}};
  const auto other_client = net::HttpClient::create();
  const std::string body = long_chat(150).body;
  std::future<Seen> along;
  for (auto& node : nodes_) node->fault("slow", 600s, 10);  // whoever reads along is there in time
  run(
      gateway->port(), body,
      [&](std::size_t count, Seen&) {
        if (count == 3)
          along = std::async(std::launch::async, [&] {
            Seen seen;
            net::SseParser parser;
            std::promise<void> done;
            other_client->start({.method = "POST",
                                 .port = gateway->port(),
                                 .target = "/v1/chat/completions",
                                 .headers = key,
                                 .body = body},
                                {.on_data =
                                     [&](std::string_view bytes) {
                                       parser.push(bytes, [&](const net::SseEvent& event) { seen.take(event); });
                                     },
                                 .on_done = [&](const Status&) { done.set_value(); }});
            done.get_future().get();
            return seen;
          });
        if (count == 40) nodes_[maker()].reset();
      },
      key);
  const Seen seen = along.get();
  EXPECT_GT(seen.events.size(), 10u);
  EXPECT_FALSE(seen.done);
  EXPECT_NE(seen.error.find("No node"), std::string::npos) << seen.error;
  for (const auto& node : nodes_) EXPECT_TRUE(!node || node->stats().requests == 0);
}

}  // namespace
}  // namespace hp::gateway
