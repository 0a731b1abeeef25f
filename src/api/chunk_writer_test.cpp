#include "api/chunk_writer.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/json.h"

namespace hp::api {
namespace {

const AnswerHead kHead{.id = "x-1", .model = "m", .created = 7};
const Usage kUsage{.prompt_tokens = 5, .completion_tokens = 2, .cached_tokens = 4};
constexpr const char* kUsageJson =
    R"("usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_cache_hit_tokens":4,)"
    R"("prompt_cache_miss_tokens":1,"prompt_tokens_details":{"cached_tokens":4},)"
    R"("completion_tokens_details":{"reasoning_tokens":0}}})";

TEST(ChunkWriter, ChatCompletion) {
  const ChoicePart parts[] = {{.index = 0, .text = "hi\n", .finish_reason = "stop", .logprobs = {}}};
  EXPECT_EQ(
      chat_completion(kHead, parts, kUsage),
      std::string(R"({"id":"x-1","object":"chat.completion","created":7,"model":"m","choices":[{"index":0,)"
                  R"("message":{"role":"assistant","content":"hi\n"},"logprobs":null,"finish_reason":"stop"}],)") +
          kUsageJson);
}

TEST(ChunkWriter, ChatChunks) {
  const std::string head = R"({"id":"x-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[)";
  const ChoicePart empty{.index = 1, .text = "", .finish_reason = "", .logprobs = {}};
  EXPECT_EQ(chat_chunk(kHead, empty, true, true),
            head + R"({"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],)" +
                R"("usage":null})");
  const ChoicePart last{.index = 0, .text = "", .finish_reason = "length", .logprobs = {}};
  EXPECT_EQ(chat_chunk(kHead, last, false, false),
            head + R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]})");
  EXPECT_EQ(chat_usage_chunk(kHead, kUsage), head + "]," + kUsageJson);
}

TEST(ChunkWriter, ReasoningAndToolCalls) {
  ChoicePart part{.index = 0, .text = "", .finish_reason = "tool_calls", .logprobs = {}};
  part.reasoning = "hm";
  part.tool_calls = {{.index = 0, .id = "call_1", .name = "f", .arguments = "{}"}};
  const std::string call = R"("id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]})";
  const std::string whole = chat_completion(kHead, {&part, 1}, kUsage);
  EXPECT_NE(
      whole.find(R"("message":{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{)" + call),
      std::string::npos)
      << whole;
  const std::string chunk = chat_chunk(kHead, part, true, false);
  EXPECT_NE(chunk.find(R"("delta":{"role":"assistant","reasoning_content":"hm","tool_calls":[{"index":0,)" + call),
            std::string::npos)
      << chunk;
  part.reasoning.clear();
  part.tool_calls = {{.index = 1, .arguments = "x"}};
  const std::string more = chat_chunk(kHead, part, false, false);
  EXPECT_NE(more.find(R"("delta":{"tool_calls":[{"index":1,"function":{"arguments":"x"}}]})"), std::string::npos)
      << more;
}

TEST(ChunkWriter, LogprobsKeepTheBytesOfBrokenCharacters) {
  const TokenLogprobs token{.chosen = {.bytes = "\xe4", .logprob = -0.5},
                            .top = {{.bytes = "a", .logprob = -std::numeric_limits<double>::infinity()}}};
  const ChoicePart parts[] = {{.index = 0, .text = "", .finish_reason = "", .logprobs = {{token}}}};
  const auto body = JsonValue::parse(chat_chunk(kHead, parts[0], false, false));
  ASSERT_TRUE(body) << body.error().message;
  const JsonValue& entry =
      body->find("choices")->as_array()->at(0).find("logprobs")->find("content")->as_array()->at(0);
  EXPECT_EQ(entry.dump(),
            "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[228],"
            "\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-9999,\"bytes\":[97]}]}");
  const auto text = JsonValue::parse(text_completion(kHead, parts, kUsage));
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(text->find("object")->dump(), "\"text_completion\"");
  EXPECT_EQ(text->find("choices")->as_array()->at(0).find("logprobs")->find("token_logprobs")->dump(), "[-0.5]");
}

TEST(ChunkWriter, TextChunks) {
  const std::string head = R"({"id":"x-1","object":"text_completion","created":7,"model":"m","choices":[)";
  const ChoicePart part{.index = 2, .text = "a", .finish_reason = "", .logprobs = {}};
  const std::string choice = R"({"index":2,"text":"a","logprobs":null,"finish_reason":null}])";
  EXPECT_EQ(text_chunk(kHead, part, false), head + choice + "}");
  EXPECT_EQ(text_chunk(kHead, part, true), head + choice + R"(,"usage":null})");
  EXPECT_EQ(text_usage_chunk(kHead, kUsage), head + "]," + kUsageJson);
}

TEST(ChunkWriter, ErrorsAndModels) {
  EXPECT_EQ(error_body({.code = ErrorCode::invalid_argument, .message = "no", .where = "top_p"}),
            R"({"error":{"message":"no","type":"invalid_request_error","param":"top_p","code":"invalid_argument"}})");
  EXPECT_EQ(http_status(ErrorCode::invalid_argument), 400);
  EXPECT_EQ(http_status(ErrorCode::resource_exhausted), 429);
  EXPECT_EQ(http_status(ErrorCode::internal), 500);
  const std::string names[] = {"m"};
  EXPECT_EQ(models_list(names, 7),
            R"({"object":"list","data":[{"id":"m","object":"model","created":7,"owned_by":"homeport"}]})");
}

}  // namespace
}  // namespace hp::api
