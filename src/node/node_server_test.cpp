// The node end to end in one process: real HTTP, real engine, fake model.
#include "node/node_server.h"

#include <gtest/gtest.h>

#include <thread>

#include "node/test_node.h"

namespace hp {
namespace {

TEST(NodeServer, SmallAnswers) {
  const TestNode node;
  EXPECT_EQ(node.ask("GET", "/health").status, 200);
  EXPECT_EQ(text_at(node.ask("GET", "/ready").json(), "status"), "ok");
  EXPECT_EQ(text_at(node.ask("GET", "/v1/models").json(), "data.0.id"), "fake");
  EXPECT_EQ(node.ask("GET", "/nothing").status, 404);
  EXPECT_EQ(node.ask("GET", "/v1/chat/completions").status, 405);
}

TEST(NodeServer, StreamedAndWholeAnswersAreTheSameText) {
  const TestNode node;
  for (const char* sampling : {R"("temperature":0)", R"("seed":7,"temperature":1.3)", R"("seed":7,"stop":["a","B"])"}) {
    const std::string members = std::string(sampling) + R"(,"max_tokens":40)";
    const Answer whole = node.chat(members);
    ASSERT_EQ(whole.status, 200) << whole.body;
    const Answer streamed = node.chat(members + R"(,"stream":true,"stream_options":{"include_usage":true})");
    ASSERT_EQ(streamed.status, 200) << streamed.body;
    ASSERT_GE(streamed.events.size(), 3U);
    EXPECT_EQ(streamed.events.back(), "[DONE]");
    std::string text, finish;
    JsonValue last;
    for (const std::string& event : streamed.events) {
      if (event == "[DONE]") continue;
      last = *JsonValue::parse(event);
      text += text_at(last, "choices.0.delta.content");
      finish += text_at(last, "choices.0.finish_reason");
    }
    EXPECT_EQ(text, text_at(whole.json(), "choices.0.message.content"));
    EXPECT_EQ(finish, text_at(whole.json(), "choices.0.finish_reason"));
    EXPECT_EQ(at(last, "usage.completion_tokens").as_int(), at(whole.json(), "usage.completion_tokens").as_int());
    EXPECT_TRUE(is_valid_utf8(text));
  }
}

TEST(NodeServer, TheAdminAddressIsItsOwnAndLocal) {
  NodeOptions options = test_options();
  options.admin_address = "0.0.0.0";
  EXPECT_EQ(start_node(options, fake_model()).error().code, ErrorCode::invalid_argument);
  options.admin_address = "127.0.0.1";
  const TestNode node(options);
  net::ClientRequest ask = node.request("GET", "/admin/stats");
  EXPECT_EQ(node.client->fetch(ask)->status, 404) << "not on the public address";
  ask.port = node.server->admin_port();
  const auto stats = node.client->fetch(ask);
  ASSERT_TRUE(stats);
  EXPECT_EQ(text_at(*JsonValue::parse(stats->body), "model"), "fake");
  ask.method = "POST";
  ask.target = "/admin/log?level=loud";
  EXPECT_EQ(node.client->fetch(ask)->status, 400);
  ask.target = "/admin/drain";
  EXPECT_EQ(node.client->fetch(ask)->status, 202);
  EXPECT_TRUE(node.server->wait());
}

TEST(NodeServer, LimitsAreReadSetAndChecked) {
  NodeOptions options = test_options();
  options.admin_address = "127.0.0.1";
  const TestNode node(options);
  const auto ask = [&](std::string method, std::string target, net::Headers headers = {}) {
    net::ClientRequest request = node.request(std::move(method), std::move(target));
    request.port = node.server->admin_port();
    request.headers = std::move(headers);
    return node.client->fetch(request).value();
  };
  const auto number = [](const net::HttpResponse& r, std::string_view key) {
    return JsonValue::parse(r.body)->find(key)->as_int().value_or(-1);
  };
  const net::HttpResponse first = ask("GET", "/admin/limits");
  ASSERT_EQ(first.status, 200) << first.body;
  const std::int64_t most = number(first, "most_running");
  ASSERT_GE(most, 2) << first.body;
  EXPECT_EQ(number(first, "max_running"), most);
  const net::HttpResponse set = ask("POST", "/admin/limits?max_running=1");
  ASSERT_EQ(set.status, 200) << set.body;
  EXPECT_EQ(number(set, "max_running"), 1);
  EXPECT_EQ(number(set, "max_step_tokens"), number(first, "max_step_tokens")) << "what is not named stays";
  EXPECT_EQ(number(ask("GET", "/admin/limits"), "max_running"), 1);
  EXPECT_EQ(node.chat(R"("max_tokens":8)").status, 200) << "it goes on serving";
  EXPECT_LE(number(ask("POST", "/admin/limits?max_running=999999"), "max_running"), most) << "never beyond its buffers";
  for (const char* wrong :
       {"/admin/limits", "/admin/limits?max_running=0", "/admin/limits?max_running=-1", "/admin/limits?max_running=1x",
        "/admin/limits?max_running=", "/admin/limits?max_step_tokens=99999999999999", "/admin/limits?other=1"}) {
    const net::HttpResponse refused = ask("POST", wrong);
    EXPECT_EQ(refused.status, 400) << wrong;
    EXPECT_NE(refused.body.find("max_step_tokens=N"), std::string::npos) << refused.body;
  }
  EXPECT_EQ(ask("POST", "/admin/limits?max_running=2", {{"Origin", "http://evil.example"}}).status, 403);
  EXPECT_EQ(ask("DELETE", "/admin/limits").status, 404);
}

TEST(NodeServer, FiguresBearTheNamesThatDashboardsRead) {
  const TestNode node;
  ASSERT_EQ(node.chat(R"("max_tokens":8,"ignore_eos":true)").status, 200);
  const std::string page = node.ask("GET", "/metrics").body;
  const std::string labels = R"({model_name="fake",engine="0"})";
  for (const std::string& line :
       {"vllm:num_requests_running" + labels + " 0", "vllm:num_requests_waiting" + labels + " 0",
        "vllm:kv_cache_usage_perc" + labels + " 0", "vllm:generation_tokens_total" + labels + " 8",
        "vllm:time_to_first_token_seconds_count" + labels + " 1",
        "vllm:inter_token_latency_seconds_count" + labels + " 7",
        std::string(R"(vllm:request_success_total{model_name="fake",engine="0",finished_reason="length"} 1)"),
        std::string(R"(vllm:time_to_first_token_seconds_bucket{model_name="fake",engine="0",le="2560"} 1)"),
        std::string("homeport_kv_blocks_used 0"), std::string("homeport_sequences_running 0")})
    EXPECT_NE(page.find("\n" + line + "\n"), std::string::npos) << line;
}

}  // namespace
}  // namespace hp
