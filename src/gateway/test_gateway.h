// A gateway over real sockets with fake nodes behind it, and a client that notes what it saw. For tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "base/json.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "gateway/stream_record.h"
#include "net/http_client.h"
#include "net/sse.h"
#include "sim/fake_node.h"

namespace hp::gateway {
using namespace std::chrono_literals;

inline constexpr std::string_view kMessages = R"([{"role":"user","content":"tell me a long story"}])";

inline std::string prompt_text() {
  return JsonValue::parse(kMessages)->dump();
}

inline std::string chat_body(int max_tokens, const std::string& more = "") {
  return fmt::format(R"({{"model":"fake","messages":{},"max_tokens":{},"stream":true,"seed":7{}}})", kMessages,
                     max_tokens, more);
}

// A chat whose reply does not end before its limit.
struct LongChat {
  std::string body;
  std::uint64_t seed = 0;
};
inline LongChat long_chat(int tokens, const std::string& more = "") {
  for (std::uint64_t seed = 1;; ++seed)
    if (fake_reply(prompt_text(), seed, 0, tokens).tokens == static_cast<std::uint64_t>(tokens))
      return {fmt::format(R"({{"model":"fake","messages":{},"max_tokens":{},"stream":true,"seed":{}{}}})", kMessages,
                          tokens, seed, more),
              seed};
}

// What a client of one stream saw.
struct Seen {
  int status = 0;
  std::vector<net::SseEvent> events;
  std::vector<std::string> text = std::vector<std::string>(16);
  std::string last_id, stream, cache, error;
  std::string finish;
  std::int64_t usage_tokens = -1;
  int usage_chunks = 0, role_chunks = 0;
  bool done = false, ended = false;

  void take(const net::SseEvent& event) {
    events.push_back(event);
    if (!event.id.empty()) last_id = event.id;
    if (event.data == "[DONE]") {
      done = true;
      return;
    }
    const auto json = JsonValue::parse(event.data);
    ASSERT_TRUE(json) << event.data;
    EXPECT_EQ(json->find("homeport"), nullptr) << "the journal is not for clients";
    if (const JsonValue* e = json->find("error")) error = e->dump();
    const JsonValue* choices = json->find("choices");
    if (choices == nullptr || choices->as_array() == nullptr) return;
    if (choices->as_array()->empty()) {
      ++usage_chunks;
      usage_tokens = json->find("usage")->find("completion_tokens")->as_int().value();
    }
    for (const JsonValue& choice : *choices->as_array()) {
      const auto index = static_cast<std::size_t>(choice.find("index")->as_int().value());
      const JsonValue* delta = choice.find("delta");
      if (delta->find("role") != nullptr) ++role_chunks;
      if (const JsonValue* content = delta->find("content")) text.at(index) += *content->as_string();
      if (const JsonValue* reason = choice.find("finish_reason"); reason->as_string() != nullptr)
        finish = *reason->as_string();
    }
  }
};

class GatewayTest : public testing::Test {
 protected:
  void SetUp() override { log::configure({.level = log::Level::error}); }

  std::unique_ptr<FakeNode> fake(FakeNodeOptions options = {}) {
    if (options.token_pace == 20ms) options.token_pace = 4ms;
    auto node = FakeNode::start(options, metrics_);
    EXPECT_TRUE(node) << node.error().message;
    return *std::move(node);
  }
  void add_node(FakeNodeOptions options = {}) {
    options.port = 0;
    nodes_.push_back(fake(options));
    node_options_.push_back(options);
    node_options_.back().port = nodes_.back()->port();
  }
  std::vector<NodeConfig> configs() {
    std::vector<NodeConfig> all;
    for (std::size_t i = 0; i < node_options_.size(); ++i)
      all.push_back(
          {.name = fmt::format("n{}", i), .port = node_options_[i].port, .homeport = node_options_[i].journal});
    return all;
  }
  std::unique_ptr<Gateway> start_gateway(GatewayOptions options = {}) {
    options.server.port = 0;
    options.nodes = configs();
    options.probe_interval = 50ms;
    options.access_log = false;
    auto gateway = Gateway::start(options, metrics_);
    EXPECT_TRUE(gateway) << gateway.error().message;
    for (int i = 0; i < 12'000 && (*gateway)->usable_nodes() < nodes_.size(); ++i) std::this_thread::sleep_for(10ms);
    EXPECT_EQ((*gateway)->usable_nodes(), nodes_.size());
    return *std::move(gateway);
  }
  // Reads a stream to its end; `at` is called with the number of events so far.
  Seen run(std::uint16_t port, const std::string& body, const std::function<void(std::size_t, Seen&)>& at = {},
           net::Headers headers = {}, const std::string& target = "/v1/chat/completions") {
    Seen seen;
    net::SseParser parser;
    std::promise<Status> done;
    const auto handle = client_->start(
        {.method = body.empty() ? "GET" : "POST", .port = port, .target = target, .headers = headers, .body = body},
        {.on_headers =
             [&](int status, const net::Headers& h) {
               seen.status = status;
               for (const auto& [name, value] : h) {
                 if (name == "homeport-stream") seen.stream = value;
                 if (name == "homeport-cache") seen.cache = value;
               }
             },
         .on_data =
             [&](std::string_view bytes) {
               parser.push(bytes, [&](const net::SseEvent& event) {
                 seen.take(event);
                 if (at) at(seen.events.size(), seen);
               });
             },
         .on_done = [&](Status outcome) { done.set_value(std::move(outcome)); }});
    auto finished = done.get_future();
    const bool in_time = finished.wait_for(180s) == std::future_status::ready;
    EXPECT_TRUE(in_time) << "the stream hangs";
    if (!in_time) {
      client_->cancel(handle);
      finished.wait();
    }
    seen.ended = finished.get().has_value();
    return seen;
  }
  void expect_whole(const Seen& seen, int max_tokens, std::uint64_t seed = 7, std::uint32_t choices = 1) {
    EXPECT_EQ(seen.status, 200);
    EXPECT_TRUE(seen.done && seen.ended) << seen.error;
    EXPECT_EQ(seen.role_chunks, static_cast<int>(choices));
    for (std::uint32_t i = 0; i < choices; ++i) {
      const FakeReply reply = fake_reply(prompt_text(), seed, i, max_tokens);
      EXPECT_EQ(seen.text[i], reply.text) << i;
    }
    for (std::size_t i = 0; i + 1 < seen.events.size(); ++i)
      EXPECT_TRUE(seen.events[i].id.starts_with(fmt::format("{}:{}", seen.stream, i))) << seen.events[i].id;
  }
  double metric(std::string_view name) { return metrics_.counter(name, "").value(); }

  MetricsRegistry metrics_;
  std::unique_ptr<Gateway> new_gateway_;
  std::vector<std::unique_ptr<FakeNode>> nodes_;
  std::vector<FakeNodeOptions> node_options_;
  std::unique_ptr<net::HttpClient> client_ = net::HttpClient::create();
};

}  // namespace hp::gateway
