// A stream cut after every one of its chunks and resumed on another node, as a gateway does it: what both nodes sent
// together must be, byte for byte, what one node alone would have sent.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "node/test_node.h"

namespace hp {
namespace {

constexpr std::string_view kMember = R"(,"homeport":{)";

/// One chunk apart: what the client gets, and what the gateway keeps.
struct Chunk {
  std::int32_t choice = -1;  ///< -1: usage or [DONE]
  std::string client;
  std::vector<TokenId> tokens;
  std::int64_t index = 0;
  std::string finish;
};

Chunk read_chunk(const std::string& event) {
  Chunk c;
  const auto cut = event.rfind(kMember);
  c.client = cut == std::string::npos ? event : event.substr(0, cut) + "}";
  if (cut == std::string::npos) return c;
  const JsonValue json = *JsonValue::parse(event);
  c.choice = static_cast<std::int32_t>(*at(json, "homeport.choice").as_int());
  c.index = *at(json, "homeport.index").as_int();
  const JsonValue ids = at(json, "homeport.token_ids");
  for (const JsonValue& t : *ids.as_array()) c.tokens.push_back(static_cast<TokenId>(*t.as_int()));
  c.finish = text_at(json, "choices.0.finish_reason");
  return c;
}

struct Resumed {
  std::map<std::int32_t, std::vector<TokenId>> tokens;
  std::map<std::int32_t, std::string> finish;

  void take(const Chunk& c) {
    if (c.choice < 0) return;
    auto& mine = tokens[c.choice];
    EXPECT_EQ(c.index, static_cast<std::int64_t>(mine.size())) << c.client;
    mine.insert(mine.end(), c.tokens.begin(), c.tokens.end());
    if (!c.finish.empty()) finish[c.choice] = c.finish;
  }
  [[nodiscard]] std::string member() const {
    std::string out;
    for (const auto& [choice, ids] : tokens)
      out += fmt::format(R"({}{{"index":{},"token_ids":[{}],"finish_reason":{}}})", out.empty() ? "" : ",", choice,
                         fmt::join(ids, ","), finish.contains(choice) ? "\"" + finish.at(choice) + "\"" : "null");
    return R"(,"homeport_resume":{"choices":[)" + out + "]}";
  }
};

struct Case {
  const char* name;
  const char* path;
  std::string body;  ///< without its last brace
};

using PerChoice = std::map<std::int32_t, std::vector<std::string>>;

const net::Headers kHeaders{
    {"Homeport-Journal", "1"}, {"Homeport-Stream", "abc"}, {"Homeport-Created", "1700000000"}, {"Homeport-Seed", "11"}};

std::vector<Chunk> chunks_of(const TestNode& node, const Case& c, const std::string& more) {
  const Answer a = node.ask("POST", c.path, c.body + more + "}", kHeaders);
  EXPECT_EQ(a.status, 200) << c.name << a.body;
  std::vector<Chunk> out;
  for (const std::string& event : a.events)
    if (event != "[DONE]") out.push_back(read_chunk(event));
  EXPECT_TRUE(!a.events.empty() && a.events.back() == "[DONE]") << c.name << a.body;
  return out;
}

PerChoice per_choice(const std::vector<Chunk>& chunks) {
  PerChoice out;
  for (const Chunk& c : chunks) out[c.choice].push_back(c.client);
  return out;
}

std::int64_t completion_tokens(const std::vector<Chunk>& chunks) {
  const auto json = JsonValue::parse(chunks.back().client);
  return at(*json, "usage.completion_tokens").as_int().value_or(-1);
}

/// `step`: only every step-th cut, for slow models.
void check(const TestNode& first, const TestNode& second, const Case& c, std::size_t step) {
  const std::vector<Chunk> whole = chunks_of(first, c, "");
  ASSERT_GE(whole.size(), 4U) << c.name;
  PerChoice expected = per_choice(whole);
  const std::int64_t tokens = completion_tokens(whole);
  expected.erase(-1);
  for (std::size_t cut = 1; cut < whole.size(); cut += step) {
    Resumed resumed;
    std::vector<Chunk> together(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
    for (const Chunk& chunk : together) resumed.take(chunk);
    const std::vector<Chunk> rest = chunks_of(second, c, resumed.member());
    for (const Chunk& chunk : rest) resumed.take(chunk);
    together.insert(together.end(), rest.begin(), rest.end());
    PerChoice found = per_choice(together);
    found.erase(-1);
    ASSERT_EQ(found, expected) << c.name << ": cut after " << cut << " of " << whole.size() << " chunks";
    ASSERT_EQ(completion_tokens(rest), tokens) << c.name << ": cut after " << cut;
  }
}

std::vector<Case> cases(std::string_view model, int max_tokens) {
  const std::string tail =
      fmt::format(R"(,"max_tokens":{},"stream":true,"stream_options":{{"include_usage":true}})", max_tokens);
  const auto chat = [&](std::string_view members) {
    return fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":"Name three colours."}}]{}{})", model,
                       members, tail);
  };
  const auto text = [&](std::string_view members) {
    return fmt::format(R"({{"model":"{}"{}{})", model, members, tail);
  };
  const char* chat_path = "/v1/chat/completions";
  const char* text_path = "/v1/completions";
  return {
      {"greedy", chat_path, chat(R"(,"temperature":0)")},
      {"sampled", chat_path, chat(R"(,"temperature":1.2)")},
      {"stop strings", chat_path, chat(R"(,"temperature":1,"stop":["e ","ab","\u001f","G"])")},
      {"penalties", chat_path,
       chat(R"(,"frequency_penalty":0.7,"presence_penalty":0.3,"repetition_penalty":1.2,"logit_bias":{"65":4})")},
      {"logprobs", chat_path, chat(R"(,"logprobs":true,"top_logprobs":3)")},
      {"choices", chat_path, chat(R"(,"n":3,"stop":["C"],"top_p":0.9,"top_k":40)")},
      {"text", text_path, text(R"(,"prompt":"Once upon","min_p":0.01)")},
      {"prompts", text_path, text(R"(,"prompt":["One","Two words"],"n":2,"logprobs":2,"stop":["t"])")},
      {"minimum", text_path, text(R"(,"prompt":"Hi","min_tokens":5,"stop_token_ids":[32,65,97,101,105,110,116,200])")},
      {"no end token", text_path, text(R"(,"prompt":[1,2,3,4,5,6],"ignore_eos":true,"temperature":0)")},
  };
}

constexpr std::string_view kSchema =
    R"(,"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object","properties":{)"
    R"("colour":{"enum":["red","green"]},"note":{"type":"string","maxLength":6},"ok":{"type":"boolean"}},)"
    R"("required":["colour","note","ok"]}}})";

std::string chat_body(std::string_view members) {
  return fmt::format(R"({{"model":"fake","messages":[{{"role":"user","content":"Hello"}}],"stream":true,)"
                     R"("max_tokens":200,"stream_options":{{"include_usage":true}}{})",
                     members);
}

TEST(Resume, AGrammarIsRebuilt) {
  NodeOptions options = test_options();
  options.journal = true;
  const TestNode first(options), second(options);
  const Case c{"schema", "/v1/chat/completions", chat_body(std::string(kSchema) + R"(,"n":2,"temperature":1.5)")};
  std::map<std::int32_t, std::string> texts;
  for (const Chunk& chunk : chunks_of(first, c, ""))
    if (chunk.choice >= 0) texts[chunk.choice] += text_at(*JsonValue::parse(chunk.client), "choices.0.delta.content");
  for (const auto& [choice, text] : texts) {
    const auto json = JsonValue::parse(text);
    ASSERT_TRUE(json) << text;
    EXPECT_TRUE(at(*json, "ok").as_bool().has_value()) << text;
  }
  check(first, second, c, 2);
  const Answer refused = first.ask("POST", c.path, c.body + R"(,"min_tokens":3})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(text_at(refused.json(), "error.param"), "min_tokens");
}

TEST(Resume, EveryCutOnTheFakeModel) {
  NodeOptions options = test_options();
  options.journal = true;
  // Another shape of steps and blocks on the second node: nothing may depend on it.
  const TestNode first(options, {.context = 512, .blocks = 512});
  options.model.max_step_tokens = 7;
  options.draft_tokens = 3;
  const TestNode second(options, {.context = 512, .block_tokens = 8, .blocks = 128});
  for (const Case& c : cases("fake", 48)) check(first, second, c, 1);
}

constexpr std::string_view kReply =
    "<think>Hm, caf\u00e9?</think>Let me look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": "
    "\"Z\u00fcrich\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
constexpr std::string_view kTools =
    R"(,"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}},)"
    R"({"type":"function","function":{"name":"time"}}])";

TEST(Resume, ReasoningAndToolCallsSurviveEveryCut) {
  NodeOptions options = test_options();
  options.journal = true;
  const TestNode first(options, scripted_model(kReply));
  const TestNode second(options, scripted_model(kReply));
  const auto body = [](std::string_view members) {
    return fmt::format(R"({{"model":"fake","messages":[{{"role":"user","content":"Weather?"}}],"stream":true,)"
                       R"("stream_options":{{"include_usage":true}}{}{})",
                       kTools, members);
  };
  EXPECT_EQ(chunks_of(first, {"tools", "/v1/chat/completions", body("")}, "").rbegin()[1].finish, "tool_calls");
  check(first, second, {"tools", "/v1/chat/completions", body("")}, 1);
  check(first, second, {"tools twice", "/v1/chat/completions", body(R"(,"n":2,"stop":["}}"])")}, 3);
}

TEST(Session, ReasoningAndToolCallsComeApart) {
  const TestNode node(test_options(), scripted_model(kReply));
  const Answer whole = node.chat(std::string(kTools.substr(1)));
  ASSERT_EQ(whole.status, 200) << whole.body;
  const JsonValue json = whole.json();
  EXPECT_EQ(text_at(json, "choices.0.message.reasoning_content"), "Hm, caf\u00e9?");
  EXPECT_EQ(text_at(json, "choices.0.message.content"), "Let me look.");
  EXPECT_EQ(text_at(json, "choices.0.finish_reason"), "tool_calls");
  EXPECT_EQ(text_at(json, "choices.0.message.tool_calls.0.function.name"), "weather");
  EXPECT_EQ(text_at(json, "choices.0.message.tool_calls.0.function.arguments"), "{\"city\": \"Z\u00fcrich\"}");
  EXPECT_EQ(text_at(json, "choices.0.message.tool_calls.1.function.name"), "time");
  EXPECT_NE(text_at(json, "choices.0.message.tool_calls.0.id"), text_at(json, "choices.0.message.tool_calls.1.id"));
  EXPECT_GT(at(json, "usage.completion_tokens_details.reasoning_tokens").as_int(), 0);
  // Without tools in the request the markers are text like any other.
  const Answer plain = node.chat(R"("max_tokens":4000)");
  EXPECT_EQ(text_at(plain.json(), "choices.0.finish_reason"), "stop");
  EXPECT_NE(text_at(plain.json(), "choices.0.message.content").find("<tool_call>"), std::string::npos);
}

TEST(Resume, ACutCharacterAndAHeldStopStringAreJournalled) {
  NodeOptions options = test_options();
  options.journal = true;
  const TestNode node(options);
  const Case c{
      "held", "/v1/completions",
      R"({"model":"fake","prompt":"x","max_tokens":64,"ignore_eos":true,"stream":true,"stop":["\u00ff\u00ff\u00ff"])"};
  const std::vector<Chunk> all = chunks_of(node, c, "");
  std::size_t tokens = 0, silent = 0;
  for (const Chunk& chunk : all) {
    tokens += chunk.tokens.size();
    silent += chunk.client.find(R"("text":"","logprobs":null,"finish_reason":null)") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(tokens, 64U);  // every token is behind some chunk
  EXPECT_GT(silent, 0U);   // also those that made no text
}

TEST(Resume, WithoutJournalModeTheMemberAndTheHeadersMeanNothing) {
  const TestNode node;
  const Case c{"off", "/v1/completions", R"({"model":"fake","prompt":"x","max_tokens":4,"stream":true)"};
  const Answer a = node.ask("POST", c.path, c.body + "}", kHeaders);
  ASSERT_EQ(a.status, 200);
  EXPECT_EQ(a.body.find("homeport"), std::string::npos);
  EXPECT_EQ(a.body.find("cmpl-abc"), std::string::npos);
}

TEST(Resume, NonsenseIsRefused) {
  NodeOptions options = test_options();
  options.journal = true;
  const TestNode node(options);
  for (const char* member :
       {R"({"choices":3})", R"({"choices":[{"index":0}]})", R"({"choices":[{"index":4,"token_ids":[]}]})",
        R"({"choices":[{"index":0,"token_ids":[99999]}]})", R"({"choices":[{"index":0,"token_ids":[-1]}]})",
        R"({"choices":[{"index":0,"token_ids":[1,2,3,4,5]}]})",
        R"({"choices":[{"index":0,"token_ids":[]},{"index":0,"token_ids":[]}]})"}) {
    const Answer a = node.complete(
        fmt::format(R"("prompt":"x","max_tokens":4,"stream":true,"homeport_resume":{})", member), kHeaders);
    EXPECT_EQ(a.status, 400) << member << a.body;
    EXPECT_EQ(text_at(a.json(), "error.param"), "homeport_resume") << a.body;
  }
}

/// The real thing: another process's worth of state, on the reference kernels.
TEST(Resume, CutsOnTheDefaultModel) {
  const char* home = std::getenv("HOME");
  const std::filesystem::path path =
      std::filesystem::path(home != nullptr ? home : "") / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not on this machine";
  NodeOptions options = test_options();
  options.journal = true;
  options.served_names = {"m"};
  options.model = {.path = path, .isa = "ref", .threads = 2, .kv_bytes = std::size_t{64} << 20, .context = 512};
  const auto node = [&] {
    auto model = load_model(options.model);
    EXPECT_TRUE(model) << model.error().message;
    return TestNode(options, *std::move(model));
  };
  const TestNode first = node();
  options.model.max_step_tokens = 9;
  const TestNode second = node();
  for (const Case& c : cases("m", 5)) {
    if (c.name == std::string_view("sampled") || c.name == std::string_view("choices"))
      check(first, second, c, c.name[0] == 's' ? 4 : 9);
  }
}

}  // namespace
}  // namespace hp
