// The whole gateway over real sockets, with fake nodes behind it.
#include "gateway/gateway.h"

#include "gateway/gateway_config.h"
#include "gateway/test_gateway.h"

namespace hp::gateway {
namespace {

TEST_F(GatewayTest, AStreamWithoutFaultsIsTheNodesStreamWithEventIds) {
  add_node();
  const auto gateway = start_gateway();
  const Seen seen = run(gateway->port(), chat_body(30, R"(,"stream_options":{"include_usage":true})"));
  expect_whole(seen, 30);
  EXPECT_EQ(seen.usage_tokens, static_cast<std::int64_t>(fake_reply(prompt_text(), 7, 0, 30).tokens));
  const auto whole =
      client_->fetch({.method = "POST",
                      .port = gateway->port(),
                      .target = "/v1/chat/completions",
                      .body = R"({"model":"fake","messages":[{"role":"user","content":"x"}],"seed":3})"});
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->status, 200);
  const auto json = JsonValue::parse(whole->body);
  ASSERT_TRUE(json) << whole->body;
  EXPECT_EQ(*json->find("choices")->as_array()->at(0).find("message")->find("content")->as_string(),
            fake_reply(R"([{"role":"user","content":"x"}])", 3, 0, kFakeDefaultTokens).text);
}

TEST_F(GatewayTest, ACutStreamGoesOnAtAnotherNodeWithTheSameTokens) {
  for (int i = 0; i < 3; ++i) add_node({.token_pace = 15ms});
  const auto gateway = start_gateway();
  for (const std::size_t when : {1u, 2u, 5u, 13u}) {
    const Seen seen = run(gateway->port(), chat_body(40, R"(,"stream_options":{"include_usage":true},"n":3)"),
                          [&](std::size_t count, Seen&) {
                            if (count == when || count == when + 20)
                              for (auto& node : nodes_) node->fault("cut", 0ms);
                          });
    expect_whole(seen, 40, 7, 3);
    EXPECT_EQ(seen.usage_chunks, 1);
    std::uint64_t tokens = 0;
    for (std::uint32_t c = 0; c < 3; ++c) tokens += fake_reply(prompt_text(), 7, c, 40).tokens;
    EXPECT_EQ(seen.usage_tokens, static_cast<std::int64_t>(tokens));
  }
  EXPECT_GE(metric("homeport_gateway_resumes_total"), 4);
  for (auto& node : nodes_) EXPECT_EQ(node->stats().refused, 0u);
}

TEST_F(GatewayTest, AStartedStreamNeverMovesToOtherWeights) {
  add_node();
  FakeNodeOptions variant;
  variant.identity = "fp_other";
  add_node(variant);
  auto gateway = start_gateway();
  for (auto& node : nodes_) node->fault("slow", 600s, 25);  // nothing comes to its end meanwhile
  std::size_t first = 99;
  const Seen seen = run(gateway->port(), chat_body(200), [&](std::size_t count, Seen&) {
    const auto all = gateway->nodes();
    if (count == 5)
      for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i].requests > 0) first = i;
    if (count != 5) return;
    if (first < 2) nodes_[first]->fault("cut", 0ms);
    for (auto& node : nodes_) node->fault("none", 0ms);
  });
  ASSERT_LT(first, 2u);
  expect_whole(seen, 200);
  EXPECT_EQ(nodes_[1 - first]->stats().requests, 0u) << "the cut stream goes on where it began";
  GatewayOptions impatient;
  impatient.resume_timeout = 1s;
  gateway = start_gateway(impatient);
  for (auto& node : nodes_) node->fault("slow", 600s, 25);
  const Seen lost = run(gateway->port(), chat_body(400), [&](std::size_t count, Seen&) {
    const auto all = gateway->nodes();
    if (count != 5) return;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].requests > 0) nodes_[first = i].reset();
  });
  EXPECT_FALSE(lost.done);
  EXPECT_NE(lost.error.find("No node"), std::string::npos) << lost.error;
  EXPECT_EQ(nodes_[1 - first]->stats().resumes, 0u);
}

TEST_F(GatewayTest, AnUnseededSampledStreamKeepsItsSeedAcrossNodes) {
  for (int i = 0; i < 2; ++i) add_node();
  const auto gateway = start_gateway();
  const std::string body = fmt::format(R"({{"model":"fake","messages":{},"max_tokens":30,"stream":true}})", kMessages);
  const Seen seen = run(gateway->port(), body, [&](std::size_t count, Seen&) {
    if (count == 6)
      for (auto& node : nodes_) node->fault("cut", 0ms);
  });
  expect_whole(seen, 30, stream_seed(seen.stream));
}

TEST_F(GatewayTest, AStalledEngineBehindAHealthyPortIsFoundByItsPace) {
  for (int i = 0; i < 2; ++i) add_node({.token_pace = 15ms});
  const auto gateway = start_gateway();
  const Seen seen = run(gateway->port(), chat_body(40), [&](std::size_t count, Seen&) {
    if (count == 8) {
      const auto all = gateway->nodes();
      for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i].requests > 0) nodes_[i]->fault("stall", 60s);
    }
  });
  expect_whole(seen, 40);
  EXPECT_EQ(metric("homeport_gateway_stalls_total"), 1);
}

TEST_F(GatewayTest, ALongPrefillWithHeartbeatsIsNoStall) {
  FakeNodeOptions slow;
  slow.prefill_per_token = 100ms;  // the prompt has about 13 tokens: longer than the shortest bound
  add_node(slow);
  add_node(slow);
  const auto gateway = start_gateway();
  const Seen seen = run(gateway->port(), chat_body(10));
  expect_whole(seen, 10);
  EXPECT_EQ(metric("homeport_gateway_stalls_total") + metric("homeport_gateway_resumes_total"), 0);
}

TEST_F(GatewayTest, ADrainingNodeHandsItsStreamsOver) {
  for (int i = 0; i < 2; ++i) add_node();
  const auto gateway = start_gateway();
  std::size_t drained = 99;
  const Seen seen = run(gateway->port(), chat_body(200), [&](std::size_t count, Seen&) {
    const auto all = gateway->nodes();
    if (count == 5)
      for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i].requests > 0) nodes_[drained = i]->fault("drain", 60s);
  });
  ASSERT_LT(drained, 2u);
  expect_whole(seen, 200);
}

TEST_F(GatewayTest, AllNodesGoneAndBackIsAPause) {
  add_node();
  const auto gateway = start_gateway();
  std::thread killer;
  const Seen seen = run(gateway->port(), chat_body(40), [&](std::size_t count, Seen&) {
    if (count == 5)
      killer = std::thread([&] {
        nodes_[0].reset();
        std::this_thread::sleep_for(300ms);
        nodes_[0] = fake(node_options_[0]);
      });
  });
  killer.join();
  expect_whole(seen, 40);
}

TEST_F(GatewayTest, ErrorsBeforeTheFirstTokenAreRetriedAndMistakesArePassedOn) {
  for (int i = 0; i < 2; ++i) add_node();
  const auto gateway = start_gateway();
  for (const char* kind : {"error", "busy", "unavailable"}) {
    nodes_[0]->fault(kind, 60s);
    for (int i = 0; i < 4; ++i) expect_whole(run(gateway->port(), chat_body(3)), 3);
    nodes_[0]->fault("none", 0ms);
  }
  for (auto& node : nodes_) node->fault("bad", 60s);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run(gateway->port(), chat_body(3)).status, 400);
  for (auto& node : nodes_) node->fault("none", 0ms);
  EXPECT_EQ(gateway->nodes()[1].breaker, BreakerState::closed);
  const auto broken =
      client_->fetch({.method = "POST", .port = gateway->port(), .target = "/v1/chat/completions", .body = "{"});
  EXPECT_EQ(broken->status, 400);
  const auto forged = client_->fetch({.method = "POST",
                                      .port = gateway->port(),
                                      .target = "/v1/chat/completions",
                                      .body = chat_body(3, R"(,"homeport_resume":{})")});
  EXPECT_EQ(forged->status, 400);
}

TEST_F(GatewayTest, FullNodesAnswer429WithTheirRetryAfter) {
  for (int i = 0; i < 2; ++i) add_node();
  GatewayOptions options;
  options.queue_timeout = 100ms;
  const auto gateway = start_gateway(options);
  for (auto& node : nodes_) node->fault("busy", 60s);
  const auto answer = client_->fetch(
      {.method = "POST", .port = gateway->port(), .target = "/v1/chat/completions", .body = chat_body(3)});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 429);
  EXPECT_NE(std::ranges::find(answer->headers, std::pair<std::string, std::string>("retry-after", "1")),
            answer->headers.end());
  for (const auto& node : gateway->nodes()) EXPECT_EQ(node.breaker, BreakerState::closed);
}

TEST_F(GatewayTest, AClientThatLostItsConnectionTakesTheStreamUpAgain) {
  for (int i = 0; i < 2; ++i) add_node();
  const auto gateway = start_gateway(), other = start_gateway();
  const Seen whole = run(gateway->port(), chat_body(30));
  expect_whole(whole, 30);
  for (const auto& again : {gateway->port(), other->port()})
    for (const std::size_t kept : {1u, 4u, 17u}) {
      // The gateway that served it knows the stream; the other one generates it again from the request.
      Seen rest = run(again, chat_body(30), {}, {{"Last-Event-ID", whole.events[kept - 1].id}});
      ASSERT_TRUE(rest.done) << rest.error;
      ASSERT_EQ(rest.events.size(), whole.events.size() - kept) << kept;
      for (std::size_t i = 0; i < rest.events.size(); ++i) {
        EXPECT_EQ(rest.events[i].data, whole.events[kept + i].data);
        EXPECT_EQ(rest.events[i].id, whole.events[kept + i].id);
      }
    }
  const Seen get = run(gateway->port(), "", {}, {{"Last-Event-ID", whole.events[3].id}}, "/v1/streams/" + whole.stream);
  EXPECT_EQ(get.events.size(), whole.events.size() - 4);
  EXPECT_EQ(run(other->port(), "", {}, {}, "/v1/streams/" + std::string(32, 'a')).status, 404);
  EXPECT_EQ(run(gateway->port(), chat_body(3), {}, {{"Last-Event-ID", "nonsense"}}).status, 400);
  for (auto& node : nodes_) EXPECT_EQ(node->stats().refused, 0u);
}

TEST_F(GatewayTest, ASecondConnectionFencesTheFirst) {
  for (int i = 0; i < 2; ++i) add_node();
  const auto gateway = start_gateway();
  for (auto& node : nodes_) node->fault("slow", 600s, 25);  // until the second connection is there
  std::future<Seen> second;
  auto other = net::HttpClient::create();
  const Seen first = run(gateway->port(), chat_body(100), [&](std::size_t count, Seen& seen) {
    if (count != 5) return;
    second = std::async(std::launch::async, [&, id = seen.last_id, stream = seen.stream] {
      Seen rest;
      net::SseParser parser;
      std::promise<void> done;
      other->start({.port = gateway->port(), .target = "/v1/streams/" + stream, .headers = {{"Last-Event-ID", id}}},
                   {.on_data =
                        [&](std::string_view bytes) {
                          parser.push(bytes, [&](const net::SseEvent& event) { rest.take(event); });
                          for (auto& node : nodes_) node->fault("none", 0ms);
                        },
                    .on_done = [&](const Status&) { done.set_value(); }});
      done.get_future().get();
      return rest;
    });
  });
  const Seen rest = second.get();
  EXPECT_TRUE(rest.done);
  EXPECT_FALSE(first.done) << "the first connection falls silent";
  std::string text;
  for (std::size_t i = 0; i < 5; ++i)
    text += i == 0 ? ""
                   : *JsonValue::parse(first.events[i].data)
                          ->find("choices")
                          ->as_array()
                          ->at(0)
                          .find("delta")
                          ->find("content")
                          ->as_string();
  EXPECT_EQ(text + rest.text[0], fake_reply(prompt_text(), 7, 0, 100).text);
}

TEST_F(GatewayTest, AGroupThatIsBackGetsItsLoadWithoutARequest) {
  for (int i = 0; i < 2; ++i) add_node();
  GatewayOptions options;
  options.hand_back_after = 300ms;
  const auto gateway = start_gateway(options);
  gateway->set_nodes({{.name = "first", .port = node_options_[0].port},
                      {.name = "standby", .port = node_options_[1].port, .priority = 1}});
  const auto serves = [&](std::string_view name) {
    for (int i = 0; i < 12'000; ++i) {
      for (const NodeStatus& node : gateway->nodes())
        if (node.config.name == name && node.ready && node.serving) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  };
  ASSERT_TRUE(serves("first") && gateway->usable_nodes() > 0);
  expect_whole(run(gateway->port(), chat_body(3)), 3);
  const auto handed_over = [&](double times) {
    for (int i = 0; i < 6'000 && metric("homeport_gateway_handovers_total") < times; ++i)
      std::this_thread::sleep_for(10ms);
    return metric("homeport_gateway_handovers_total") >= times;
  };
  nodes_[0].reset();
  EXPECT_TRUE(handed_over(1) && serves("standby"));
  nodes_[0] = fake(node_options_[0]);
  EXPECT_TRUE(handed_over(2) && serves("first"));
}

TEST_F(GatewayTest, AForeignServerIsForwardedAndFailsOverOnlyBeforeItsFirstToken) {
  FakeNodeOptions foreign;
  foreign.journal = false;
  foreign.heartbeat = {};
  add_node(foreign);
  const auto gateway = start_gateway();
  const Seen whole = run(gateway->port(), chat_body(20));
  EXPECT_TRUE(whole.done);
  EXPECT_EQ(whole.text[0], fake_reply(prompt_text(), 7, 0, 20).text);
  const Seen cut = run(gateway->port(), chat_body(40), [&](std::size_t count, Seen&) {
    if (count == 5) nodes_[0]->fault("cut", 0ms);
  });
  EXPECT_FALSE(cut.done);
  EXPECT_NE(cut.error, "");
}

TEST_F(GatewayTest, ALeavingClientCancelsAtTheNodeAndItsLoadIsGivenBack) {
  add_node();
  const auto gateway = start_gateway();
  std::promise<void> some;
  std::atomic<int> events{0};
  const auto handle = client_->start(
      {.method = "POST", .port = gateway->port(), .target = "/v1/chat/completions", .body = chat_body(100'000)},
      {.on_data = [&](std::string_view) {
        if (++events == 3) some.set_value();
      }});
  some.get_future().get();
  EXPECT_EQ(nodes_[0]->stats().open, 1u);
  client_->cancel(handle);
  const auto left = [&] { return nodes_[0]->stats().open + static_cast<std::size_t>(gateway->nodes()[0].load_tokens); };
  for (int i = 0; i < 12'000 && left() > 0; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(nodes_[0]->stats().open, 0u);
  EXPECT_EQ(gateway->nodes()[0].load_tokens, 0);
}

TEST_F(GatewayTest, OwnPages) {
  add_node();
  const auto gateway = start_gateway();
  const auto get = [&](const std::string& path) { return client_->fetch({.port = gateway->port(), .target = path}); };
  EXPECT_EQ(get("/health")->status, 200);
  EXPECT_EQ(get("/ready")->status, 200);
  EXPECT_NE(get("/v1/models")->body.find("\"fake\""), std::string::npos);
  EXPECT_NE(get("/metrics")->body.find("homeport_gateway_requests_total"), std::string::npos);
  EXPECT_EQ(get("/nowhere")->status, 404);
  gateway->begin_drain();
}

TEST_F(GatewayTest, TenantsHaveLimitsAndSeeOnlyTheirOwnStreams) {
  add_node();
  GatewayOptions options;
  options.tenants =
      parse_tenants("[[tenant]]\nname='a'\nkeys=['ka']\n[[tenant]]\nname='b'\nkeys=['kb']\nrequests_per_minute=2\n",
                    "test")
          .value();
  const auto gateway = start_gateway(options);
  const net::Headers a{{"Authorization", "Bearer ka"}}, b{{"Authorization", "Bearer kb"}};
  EXPECT_EQ(run(gateway->port(), chat_body(3)).status, 401);
  const Seen mine = run(gateway->port(), chat_body(10), {}, a);
  expect_whole(mine, 10);
  EXPECT_EQ(run(gateway->port(), "", {}, a, "/v1/streams/" + mine.stream).status, 200);
  EXPECT_EQ(run(gateway->port(), "", {}, b, "/v1/streams/" + mine.stream).status, 404) << "another tenant's stream";
  EXPECT_EQ(run(gateway->port(), "", {}, {}, "/v1/streams/" + mine.stream).status, 401);
  EXPECT_EQ(run(gateway->port(), chat_body(3), {}, b).status, 200);
  const auto limited = client_->fetch({.method = "POST",
                                       .port = gateway->port(),
                                       .target = "/v1/chat/completions",
                                       .headers = b,
                                       .body = chat_body(3)});
  EXPECT_EQ(limited->status, 429);
  const auto retry = std::ranges::find(limited->headers, "retry-after", &std::pair<std::string, std::string>::first);
  ASSERT_NE(retry, limited->headers.end());
  EXPECT_TRUE(std::stoi(retry->second) >= 1 && std::stoi(retry->second) <= 30) << "the next of two a minute";
}

TEST_F(GatewayTest, AStreamsTokenReadsThatStreamWithoutAKeyAndNothingElse) {
  add_node();
  GatewayOptions options;
  options.tenants = parse_tenants("[[tenant]]\nname='a'\nkeys=['ka']\n", "test").value();
  const auto gateway = start_gateway(options);
  struct Named {
    std::string stream, token;
  };
  const auto ask = [&](const std::string& more) {
    Named named;
    const auto answer = client_->fetch({.method = "POST",
                                        .port = gateway->port(),
                                        .target = "/v1/chat/completions",
                                        .headers = {{"Authorization", "Bearer ka"}},
                                        .body = chat_body(10, more)});
    EXPECT_TRUE(answer);
    for (const auto& [name, value] : answer->headers) {
      if (name == "homeport-stream") named.stream = value;
      if (name == "homeport-stream-token") named.token = value;
    }
    return named;
  };
  const Named one = ask(""), other = ask(R"(,"user":"x")");
  ASSERT_EQ(one.token.size(), 32u);
  EXPECT_NE(one.token, other.token);
  const auto get = [&](const std::string& stream, const std::string& query, const net::Headers& headers = {}) {
    return run(gateway->port(), "", {}, headers, "/v1/streams/" + stream + query);
  };
  const Seen seen = get(one.stream, "?token=" + one.token);
  expect_whole(seen, 10);
  EXPECT_EQ(get(one.stream, "?x=1&token=" + one.token, {{"Last-Event-ID", one.stream + ":3"}}).events.size(),
            seen.events.size() - 4);
  for (const std::string& wrong : {"?token=" + other.token, "?token=" + std::string(32, '0'), std::string("?token="),
                                   "?tokens=" + one.token, std::string()})
    EXPECT_EQ(get(one.stream, wrong).status, 401) << wrong;
  EXPECT_EQ(get(std::string(32, 'a'), "?token=" + one.token).status, 401);
  EXPECT_EQ(run(gateway->port(), chat_body(3), {}, {}, "/v1/chat/completions?token=" + one.token).status, 401);
  EXPECT_EQ(run(gateway->port(), chat_body(3), {}, {{"Authorization", "Bearer " + one.token}}).status, 401);
}

TEST_F(GatewayTest, ANewGatewayTakesThePortOverWithoutALostRequest) {
  add_node();
  GatewayOptions options;
  options.server.reuse_port = true;
  auto old = start_gateway(options);
  const std::uint16_t port = old->port();
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0}, failed{0}, before{0};
  std::thread user([&] {
    const auto client = net::HttpClient::create();
    while (!stop) {
      const auto answer = client->fetch(
          {.method = "POST", .port = port, .target = "/v1/embeddings", .body = "{}", .keep_alive = false});
      answer && answer->status == 200 ? ++answered : ++failed;
    }
  });
  const Seen seen = run(port, chat_body(150), [&](std::size_t count, Seen&) {
    if (count == 10) {
      options.server.port = port;
      options.nodes = configs();
      options.probe_interval = 50ms;
      options.access_log = false;
      std::unique_ptr<Gateway> fresh = Gateway::start(options, metrics_).value();
      for (int i = 0; i < 12'000 && fresh->usable_nodes() == 0; ++i) std::this_thread::sleep_for(5ms);
      old->begin_drain();
      before = answered.load();
      new_gateway_ = std::move(fresh);
    }
  });
  expect_whole(seen, 150);
  for (int i = 0; i < 12'000 && answered < before + 20; ++i) std::this_thread::sleep_for(10ms);
  stop = true;
  user.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GE(answered, before + 20) << "asked all the time";
  EXPECT_EQ(run(port, chat_body(3)).status, 200) << "the new one answers";
  old.reset();
  new_gateway_.reset();
}

TEST(GatewayConfig, NamesStandForAllTheirAddresses) {
  const auto nodes = parse_nodes("# comment\na=127.0.0.1:1\ndns:localhost:8000;priority=1\n", '\n', "test");
  ASSERT_TRUE(nodes) << nodes.error().message;
  ASSERT_GE(nodes->size(), 2u);
  EXPECT_EQ(nodes->at(0).name, "a");
  EXPECT_EQ(nodes->at(1).priority, 1);
  EXPECT_TRUE(nodes->at(1).host == "127.0.0.1" || nodes->at(1).host == "::1") << nodes->at(1).host;
  EXPECT_FALSE(parse_nodes("dns:no.such.name.invalid:1", ',', "test"));
}

TEST_F(GatewayTest, NodesChangeWithoutTouchingStreams) {
  add_node();
  const auto gateway = start_gateway();
  const Seen seen = run(gateway->port(), chat_body(150), [&](std::size_t count, Seen&) {
    if (count != 5) return;
    add_node();
    gateway->set_nodes({{.name = "n1", .port = node_options_[1].port}});
  });
  expect_whole(seen, 150);
  for (int i = 0; i < 12'000 && gateway->usable_nodes() == 0; ++i) std::this_thread::sleep_for(10ms);
  expect_whole(run(gateway->port(), chat_body(5)), 5);
  EXPECT_GT(nodes_[1]->stats().requests, 0u);
}

}  // namespace
}  // namespace hp::gateway
