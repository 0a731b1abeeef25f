// Answers given again: what makes two requests the same, what is kept, one generation for many, and what a client of a
// repeated answer sees.
#include "gateway/reply_cache.h"

#include <future>

#include "gateway/test_gateway.h"
#include "store/late_server.h"
#include "store/redis.h"
#include "store/test_redis.h"

namespace hp::gateway {
namespace {

constexpr int kLong = 400;  // the fake node's replies end by themselves well before

ReuseKey key_of(std::string_view body, std::string_view tenant = "t", std::string_view identity = "fp") {
  const auto key = reuse_key({.tenant = tenant,
                              .target = "/v1/chat/completions",
                              .body = body,
                              .identity = identity,
                              .deterministic = true,
                              .cache = true});
  EXPECT_TRUE(key && *key);
  return **key;
}

TEST(ReuseKey, IsTheRequestsMeaningAndNothingElse) {
  const std::string body = R"({"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"user":"x"})";
  const std::string same =
      R"({ "messages": [ {"content":"\u0061", "role":"user"} ], "temperature": 0.0, "model":"m", "user":"y" })";
  EXPECT_EQ(key_of(body).key, key_of(same).key);
  for (const char* other :
       {R"({"model":"m","temperature":0,"messages":[{"role":"user","content":"b"}]})",
        R"({"model":"m","temperature":0,"messages":[{"role":"system","content":"a"}]})",
        R"({"model":"m","temperature":0,"max_tokens":5,"messages":[{"role":"user","content":"a"}]})",
        R"({"model":"m","temperature":0,"stream":true,"messages":[{"role":"user","content":"a"}]})",
        R"({"model":"m","temperature":0,"stop":["user"],"messages":[{"role":"user","content":"a"}]})"})
    EXPECT_NE(key_of(body).key, key_of(other).key) << other;
  EXPECT_NE(key_of(body).key, key_of(body, "other tenant").key);
  EXPECT_NE(key_of(body).key, key_of(body, "t", "other weights").key);
  EXPECT_EQ(key_of(body).key.find("user"), std::string::npos);
}

TEST(ReuseKey, KeepsTheOrderThatThePromptHas) {
  const auto with = [](std::string_view members) {
    return key_of(fmt::format(R"({{"temperature":0,{}}})", members)).key;
  };
  EXPECT_NE(with(R"("tools":[{"a":1,"b":2}])"), with(R"("tools":[{"b":2,"a":1}])"));
  EXPECT_NE(with(R"("response_format":{"properties":{"a":{},"b":{}}})"),
            with(R"("response_format":{"properties":{"b":{},"a":{}}})"));
  EXPECT_EQ(with(R"("tools":[{"a":1}],"n":1)"), with(R"("n": 1.0, "tools" : [ {"a" :1} ])"));
}

TEST(ReuseKey, NeedsADeterministicRequestAndOneIdentity) {
  ReuseQuery query{.tenant = "t", .target = "/", .body = "{}", .identity = "fp", .deterministic = true, .cache = true};
  EXPECT_TRUE((*reuse_key(query)).has_value());
  query.identity = "";
  EXPECT_FALSE((*reuse_key(query)).has_value());
  query.identity = "fp";
  query.deterministic = false;
  EXPECT_FALSE((*reuse_key(query)).has_value());
  query.idempotency_key = "k";
  EXPECT_TRUE((*reuse_key(query))->idempotent);
}

TEST(SavedReply, SurvivesItsJson) {
  const SavedReply reply{.stream = "s",
                         .weights = "0a1b2c3d",
                         .body_hash = "h",
                         .content_type = "application/json",
                         .body = "{\"a\":\"\\n\"}",
                         .chunks = {{.choice = 0, .data = "{\"x\":1}"}, {.choice = kUsageChunk, .data = "漢"}}};
  const auto again = SavedReply::from_json(reply.to_json());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->to_json(), reply.to_json());
  for (const char* bad : {"", "{}", R"({"format":3})", R"({"format":2,"stream":"s"})"})
    EXPECT_FALSE(SavedReply::from_json(bad)) << bad;
}

TEST(ReplyCache, DoesNotWaitForARedisThatAnswersLate) {
  store::LateServer server(2 * store::kLate);
  MetricsRegistry metrics;
  auto redis = store::Redis::create({.address = server.address(), .timeout = std::chrono::seconds(10)}, metrics);
  ASSERT_TRUE(redis) << redis.error().message;
  while (!(*redis)->available()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  while (!(*redis)->late()) {
    std::promise<void> answered;
    (*redis)->send({"PING"}, [&](const Result<store::Reply>&) { answered.set_value(); });
    answered.get_future().get();
  }
  const SteadyClock clock;
  ReplyCache cache({.cache = true}, redis->get(), clock, metrics);
  const auto asked = [&] {
    return metrics.render().find("homeport_reply_cache_lookups_total{result=\"skipped\"} 1") == std::string::npos;
  };
  std::promise<void> done;
  cache.fetch(key_of(R"({"model":"m","temperature":0,"prompt":"a"})"), [&](const SavedReplyPtr& reply) {
    EXPECT_EQ(reply, nullptr);
    done.set_value();
  });
  done.get_future().get();
  EXPECT_FALSE(asked());
  (*redis)->stop();
}

TEST(ReplyCache, KeepsWithinItsBytesAndItsTime) {
  ManualClock clock;
  MetricsRegistry metrics;
  ReplyCache cache({.max_bytes = 4'000, .cache = true, .cache_ttl = std::chrono::seconds(10)}, nullptr, clock, metrics);
  const auto put = [&](const ReuseKey& key) {
    auto look = cache.look(key);
    ASSERT_TRUE(look.leads);
    look.flight->set_whole("application/json", std::string(1'000, 'x'));
    cache.finish(key, look.flight, Flight::State::complete, true);
  };
  const auto has = [&](const ReuseKey& key) {
    auto look = cache.look(key);
    if (look.leads) cache.finish(key, look.flight, Flight::State::failed, false);
    return !look.leads;
  };
  const ReuseKey a = key_of(R"({"a":1})"), b = key_of(R"({"a":2})"), c = key_of(R"({"a":3})");
  put(a);
  put(b);
  EXPECT_TRUE(has(a));  // b is the least recently used now
  put(c);
  EXPECT_TRUE(has(a) && has(c));
  EXPECT_FALSE(has(b));
  clock.advance(std::chrono::seconds(11));
  EXPECT_FALSE(has(a));
}

class ReplyCacheGateway : public GatewayTest {
 protected:
  static GatewayOptions caching() {
    GatewayOptions options;
    options.replies.cache = true;
    return options;
  }
  std::uint64_t generated() {
    std::uint64_t sum = 0;
    for (auto& node : nodes_) sum += node->stats().requests;
    return sum;
  }
  static std::string unseeded(int max_tokens) {
    return fmt::format(R"({{"model":"fake","messages":{},"max_tokens":{},"stream":true}})", kMessages, max_tokens);
  }
  net::HttpResponse whole(std::uint16_t port, const std::string& body, net::Headers headers = {}) {
    auto answer = client_->fetch({.method = "POST",
                                  .port = port,
                                  .target = "/v1/chat/completions",
                                  .headers = std::move(headers),
                                  .body = body});
    EXPECT_TRUE(answer);
    return answer ? *std::move(answer) : net::HttpResponse{};
  }
};

TEST_F(ReplyCacheGateway, AHitIsAValidStreamOfItsOwn) {
  add_node();
  const auto gateway = start_gateway(caching());
  const std::string body = chat_body(kLong, R"(,"n":2,"stream_options":{"include_usage":true})");
  const Seen first = run(gateway->port(), body), second = run(gateway->port(), body);
  expect_whole(first, kLong, 7, 2);
  expect_whole(second, kLong, 7, 2);
  EXPECT_EQ(first.finish, "stop");
  EXPECT_EQ(first.cache, "");
  EXPECT_EQ(second.cache, "hit");
  EXPECT_EQ(second.usage_tokens, first.usage_tokens);
  EXPECT_NE(second.stream, first.stream);
  EXPECT_EQ(second.events.size(), first.events.size());
  EXPECT_EQ(generated(), 1u);
  // Cut off in the middle of a hit, the client takes it up like any stream.
  const Seen rest = run(gateway->port(), body, {}, {{"Last-Event-ID", second.events[9].id}});
  ASSERT_EQ(rest.events.size(), second.events.size() - 10);
  EXPECT_EQ(rest.events[0].id, second.events[10].id);
  // A client that wants it anew gets it anew.
  EXPECT_EQ(run(gateway->port(), body, {}, {{"Cache-Control", "no-cache"}}).cache, "");
}

TEST_F(ReplyCacheGateway, OnlyCompleteDeterministicAnswersAreKept) {
  add_node();
  const auto gateway = start_gateway(caching());
  for (const std::string& body : {chat_body(3), unseeded(kLong)}) {  // ends by length; sampled without a seed
    run(gateway->port(), body);
    EXPECT_EQ(run(gateway->port(), body).cache, "") << body;
  }
  nodes_[0]->fault("bad", 60s);
  const std::string body = R"({"model":"fake","messages":[{"role":"user","content":"x"}],"seed":3,"max_tokens":400})";
  EXPECT_EQ(whole(gateway->port(), body).status, 400);
  nodes_[0]->fault("none", 0ms);
  const auto good = whole(gateway->port(), body), again = whole(gateway->port(), body);
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(JsonValue::parse(good.body)->find("choices")->dump(),
            JsonValue::parse(again.body)->find("choices")->dump());
  EXPECT_EQ(metric("homeport_reply_cache_stored_total"), 1);
  EXPECT_EQ(generated(), 6u);
}

TEST_F(ReplyCacheGateway, AStampedeIsOneGeneration) {
  for (int i = 0; i < 2; ++i) add_node();
  const auto gateway = start_gateway(caching());
  std::vector<std::future<Seen>> clients;
  for (int i = 0; i < 20; ++i)
    clients.push_back(std::async(std::launch::async, [&] { return run(gateway->port(), chat_body(kLong)); }));
  for (auto& client : clients) expect_whole(client.get(), kLong);
  EXPECT_EQ(generated(), 1u);
}

TEST_F(ReplyCacheGateway, WhoReadsAlongOutlivesTheOneWhoAsked) {
  add_node({.token_pace = 10ms});
  const auto gateway = start_gateway(caching());
  std::future<Seen> follower;
  auto leader = net::HttpClient::create();
  std::promise<void> begun;
  std::atomic<bool> told{false};
  const auto handle = leader->start(
      {.method = "POST", .port = gateway->port(), .target = "/v1/chat/completions", .body = chat_body(kLong)},
      {.on_headers = [](int, const net::Headers&) {},
       .on_data =
           [&](std::string_view) {
             if (!told.exchange(true)) begun.set_value();
           },
       .on_done = [](const Status&) {}});
  begun.get_future().wait();
  nodes_[0]->fault("slow", 600s, 20);  // so that whoever joins is not late
  const Seen seen = run(gateway->port(), chat_body(kLong), [&](std::size_t count, Seen&) {
    if (count != 3) return;
    leader->cancel(handle);
    nodes_[0]->fault("none", 0ms);
  });
  expect_whole(seen, kLong);
  EXPECT_EQ(seen.cache, "joined");
  EXPECT_EQ(generated(), 1u);
}

TEST_F(ReplyCacheGateway, AnIdempotencyKeyIsOneAnswer) {
  add_node();
  const auto gateway = start_gateway();  // without the response cache
  const net::Headers key{{"Idempotency-Key", "order-1"}};
  const Seen first = run(gateway->port(), unseeded(20), {}, key), again = run(gateway->port(), unseeded(20), {}, key);
  EXPECT_EQ(first.text, again.text);
  EXPECT_EQ(first.stream, again.stream);
  EXPECT_EQ(again.cache, "hit");
  EXPECT_NE(run(gateway->port(), unseeded(20)).text, first.text);
  EXPECT_EQ(run(gateway->port(), unseeded(21), {}, key).status, 422);
  EXPECT_EQ(run(gateway->port(), unseeded(20), {}, {{"Idempotency-Key", std::string(256, 'k')}}).status, 400);
  EXPECT_EQ(generated(), 2u);
}

TEST_F(ReplyCacheGateway, ARetryAfterALostConnectionGetsTheAnswerThatWasBegun) {
  add_node({.token_pace = 5ms});
  const auto gateway = start_gateway();
  const net::Headers key{{"Idempotency-Key", "order-2"}};
  auto impatient = net::HttpClient::create();
  std::promise<void> begun;
  std::atomic<bool> told{false};
  const auto handle = impatient->start({.method = "POST",
                                        .port = gateway->port(),
                                        .target = "/v1/chat/completions",
                                        .headers = key,
                                        .body = unseeded(60)},
                                       {.on_headers = [](int, const net::Headers&) {},
                                        .on_data =
                                            [&](std::string_view) {
                                              if (!told.exchange(true)) begun.set_value();
                                            },
                                        .on_done = [](const Status&) {}});
  begun.get_future().wait();
  impatient->cancel(handle);
  const Seen seen = run(gateway->port(), unseeded(60), {}, key);
  expect_whole(seen, 60, stream_seed(seen.stream));
  EXPECT_EQ(generated(), 1u);
}

TEST_F(ReplyCacheGateway, TwoGatewaysShareThroughRedisAndNeitherNeedsIt) {
  if (!store::TestRedis::installed()) GTEST_SKIP() << "redis-server is not installed";
  store::TestRedis redis;
  add_node();
  GatewayOptions options = caching();
  options.redis = redis.address();
  const auto one = start_gateway(options), two = start_gateway(options);
  Seen shared;
  for (int i = 0; i < 200 && shared.cache != "hit"; ++i) {  // both must have found it, and the write be through
    const std::string body = chat_body(kLong, fmt::format(R"(,"stop":["{}"])", i));
    run(one->port(), body);
    std::this_thread::sleep_for(20ms);
    shared = run(two->port(), body);
  }
  EXPECT_EQ(shared.cache, "hit");
  expect_whole(shared, kLong);
  redis.freeze();
  expect_whole(run(two->port(), chat_body(kLong, R"(,"stop":["x"])")), kLong);
  redis.kill();
  expect_whole(run(one->port(), chat_body(kLong, R"(,"stop":["y"])")), kLong);
}

}  // namespace
}  // namespace hp::gateway
