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

}  // namespace
}  // namespace hp
