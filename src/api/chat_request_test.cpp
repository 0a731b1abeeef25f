#include "api/chat_request.h"

#include <gtest/gtest.h>

#include <string>

namespace hp::api {
namespace {

std::string body_with(const std::string& more) {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + (more.empty() ? "" : "," + more) + "}";
}

TEST(ChatRequest, DefaultsAreOpenAis) {
  const auto r = parse_chat_request(body_with(""));
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->model, "m");
  EXPECT_EQ(r->messages.at(0).content, "hi");
  EXPECT_FLOAT_EQ(r->params.temperature, 1.0F);
  EXPECT_EQ(r->params.n, 1);
  EXPECT_FALSE(r->params.max_tokens || r->params.seed || r->params.stream || r->logprobs);
}

TEST(ChatRequest, ReadsEveryParameter) {
  const auto r = parse_chat_request(body_with(
      R"("temperature":0,"top_p":0.5,"n":3,"max_tokens":5,"max_completion_tokens":7,"stop":["a","b"],"seed":-1,)"
      R"("logprobs":true,"top_logprobs":20,"logit_bias":{"42":-100},"frequency_penalty":-2,"presence_penalty":2,)"
      R"("stream":true,"stream_options":{"include_usage":true},"top_k":-1,"min_p":0.1,"repetition_penalty":1.5,)"
      R"("ignore_eos":true)"));
  ASSERT_TRUE(r) << r.error().message;
  const GenerationParams& p = r->params;
  EXPECT_EQ(p.temperature, 0.0F);
  EXPECT_EQ(p.top_p, 0.5F);
  EXPECT_EQ(p.n, 3);
  EXPECT_EQ(p.max_tokens, 7);
  EXPECT_EQ(p.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(p.seed, ~std::uint64_t{0});
  EXPECT_EQ(r->top_logprobs, 20);
  ASSERT_EQ(p.logit_bias.size(), 1U);
  EXPECT_EQ(p.logit_bias[0], (std::pair<std::int32_t, float>{42, -100.0F}));
  EXPECT_EQ(p.top_k, 0);
  EXPECT_EQ(p.repetition_penalty, 1.5F);
  EXPECT_TRUE(p.ignore_eos && p.stream && p.include_usage);
}

TEST(ChatRequest, JoinsTextParts) {
  const auto r = parse_chat_request(
      R"({"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})");
  ASSERT_TRUE(r) << r.error().message;
  EXPECT_EQ(r->messages.at(0).content, "ab");
  EXPECT_EQ(r->messages.at(0).role, Role::system);
}

TEST(ChatRequest, ReadsToolsAndTheirAnswers) {
  const auto r = parse_chat_request(
      R"({"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"reasoning_content":"hm",)"
      R"("tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},)"
      R"({"role":"tool","tool_call_id":"c1","content":"42"},{"role":"assistant","content":"It","prefix":true}],)"
      R"("tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},)"
      R"("strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,)"
      R"("thinking":{"type":"disabled"},"reasoning_effort":"high"})");
  ASSERT_TRUE(r) << r.error().message;
  ASSERT_EQ(r->messages.size(), 4U);
  EXPECT_EQ(r->messages[1].tool_calls.at(0).arguments, "{}");
  EXPECT_EQ(r->messages[1].reasoning, "hm");
  EXPECT_EQ(r->messages[2].role, Role::tool);
  EXPECT_TRUE(r->messages[3].prefix);
  EXPECT_EQ(r->tools.at(0).parameters, R"({"type":"object"})");
  EXPECT_TRUE(r->tools[0].strict);
  EXPECT_EQ(r->tool_choice, ToolChoice::named);
  EXPECT_EQ(r->tool_name, "f");
  EXPECT_FALSE(r->parallel_tool_calls);
  EXPECT_EQ(r->thinking, std::optional(false));
  EXPECT_EQ(r->reasoning_effort, "high");
}

TEST(ChatRequest, AToolAnswerNeedsItsCall) {
  const auto r = parse_chat_request(
      R"({"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f"}}]},)"
      R"({"role":"tool","tool_call_id":"b","content":"x"}]})");
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().where, "messages[1].tool_call_id");
}

TEST(ChatRequest, ReadsResponseFormats) {
  const auto object = parse_chat_request(body_with(R"("response_format":{"type":"json_object"})"));
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(object->response_format, ResponseFormat::json_object);
  const auto schema = parse_chat_request(
      body_with(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"null"}}})"));
  ASSERT_TRUE(schema) << schema.error().message;
  EXPECT_EQ(schema->response_format, ResponseFormat::json_schema);
  EXPECT_EQ(schema->response_schema, R"({"type":"null"})");
}

TEST(ChatRequest, WrongValuesNameTheirParameter) {
  const struct {
    const char *field, *param;
  } cases[] = {
      {R"("temperature":2.1)", "temperature"},
      {R"("temperature":-0.1)", "temperature"},
      {R"("temperature":"hot")", "temperature"},
      {R"("top_p":0)", "top_p"},
      {R"("top_p":1e-60)", "top_p"},
      {R"("top_p":1.01)", "top_p"},
      {R"("n":0)", "n"},
      {R"("n":1.5)", "n"},
      {R"("n":100000)", "n"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_completion_tokens":-1)", "max_completion_tokens"},
      {R"("stop":7)", "stop"},
      {R"("stop":"")", "stop"},
      {R"("stop":[1])", "stop"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"])", "stop"},
      {R"("seed":"x")", "seed"},
      {R"("top_logprobs":2)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":3)", "logprobs"},
      {R"("logit_bias":[1])", "logit_bias"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logit_bias":{"1":1,"01":2})", "logit_bias"},
      {R"("frequency_penalty":3)", "frequency_penalty"},
      {R"("presence_penalty":-3)", "presence_penalty"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("min_p":2)", "min_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("stream":"yes")", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":1)", "stream_options"},
      {R"("tools":3)", "tools"},
      {R"("tools":[{"type":"browser"}])", "tools[0].type"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])", "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}])",
       "tools[1].function.name"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":"maybe")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"g"}})", "tool_choice"},
      {R"("parallel_tool_calls":1)", "parallel_tool_calls"},
      {R"("response_format":{"type":"xml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema.schema"},
      {R"("thinking":true)", "thinking"},
      {R"("reasoning_effort":"huge")", "reasoning_effort"},
  };
  for (const auto& c : cases) {
    const auto r = parse_chat_request(body_with(c.field));
    ASSERT_FALSE(r) << c.field;
    EXPECT_EQ(r.error().code, ErrorCode::invalid_argument) << c.field;
    EXPECT_EQ(r.error().where, c.param) << c.field << ": " << r.error().message;
  }
}

TEST(ChatRequest, WrongBodiesAreRefused) {
  const struct {
    const char *body, *param;
  } cases[] = {
      {"", ""},
      {"{", ""},
      {"[]", ""},
      {"{\"model\":\"\xff\"}", ""},
      {R"({"messages":[]})", "model"},
      {R"({"model":"m"})", "messages"},
      {R"({"model":"m","messages":[]})", "messages"},
      {R"({"model":"m","messages":[3]})", "messages[0]"},
      {R"({"model":"m","messages":[{"content":"x"}]})", "messages[0].role"},
      {R"({"model":"m","messages":[{"role":"wizard","content":"x"}]})", "messages[0].role"},
      {R"({"model":"m","messages":[{"role":"user"}]})", "messages[0].content"},
      {R"({"model":"m","messages":[{"role":"assistant","content":null}]})", "messages[0].content"},
      {R"({"model":"m","messages":[{"role":"tool","content":"x","tool_call_id":"1"}]})", "messages[0].role"},
      {R"({"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]})",
       "messages[0].tool_calls[0].function"},
      {R"({"model":"m","messages":[{"role":"assistant","content":"x","prefix":true},{"role":"user","content":"y"}]})",
       "messages[0].prefix"},
      {R"({"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages[0].content[0].type"},
      {R"({"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]})", "messages[0].content[0].text"},
  };
  for (const auto& c : cases) {
    const auto r = parse_chat_request(c.body);
    ASSERT_FALSE(r) << c.body;
    EXPECT_EQ(r.error().code, ErrorCode::invalid_argument) << c.body;
    EXPECT_EQ(r.error().where, c.param) << c.body;
  }
}

}  // namespace
}  // namespace hp::api
