#include "text/reply_parser.h"

#include <gtest/gtest.h>

#include <random>

#include "base/json.h"

namespace hp {
namespace {

struct Whole {
  std::string reasoning, content;
  std::vector<std::pair<std::string, std::string>> calls;
  bool operator==(const Whole&) const = default;
};

void PrintTo(const Whole& w, std::ostream* out) {
  *out << "reasoning[" << w.reasoning << "] content[" << w.content << "]";
  for (const auto& [name, arguments] : w.calls) *out << " " << name << "(" << arguments << ")";
}

void collect(const ReplyDelta& delta, Whole& whole) {
  whole.reasoning += delta.reasoning;
  whole.content += delta.content;
  for (const ToolCallDelta& call : delta.tool_calls) {
    const auto at = static_cast<std::size_t>(call.index);
    if (!call.name.empty()) {
      ASSERT_EQ(at, whole.calls.size()) << "a name comes once, calls come in order";
      whole.calls.emplace_back(call.name, "");
    }
    ASSERT_LT(at, whole.calls.size());
    whole.calls[at].second += call.arguments;
  }
}

/// Cuts `text` at random places (0: not at all) and collects the parts.
Whole parse(ReplyStyle style, const std::string& text, unsigned seed = 0) {
  ReplyParser parser(style);
  Whole whole;
  std::mt19937 random(seed);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = seed == 0 ? text.size() : 1 + random() % (seed % 7 == 0 ? 1 : 12);
    ReplyDelta delta;
    parser.push(std::string_view(text).substr(at, bytes), delta);
    collect(delta, whole);
    at += bytes;
  }
  ReplyDelta delta;
  parser.finish(delta);
  collect(delta, whole);
  EXPECT_EQ(parser.has_tool_calls(), !whole.calls.empty());
  return whole;
}

constexpr ReplyStyle kV3{.tools = ToolSyntax::deepseek_v3, .reasons = false, .opens_in_reasoning = false};
constexpr ReplyStyle kR1{.tools = ToolSyntax::deepseek_v3, .reasons = true, .opens_in_reasoning = true};
constexpr ReplyStyle kV31{.tools = ToolSyntax::deepseek_v31, .reasons = true, .opens_in_reasoning = false};
constexpr ReplyStyle kQwen{.tools = ToolSyntax::qwen, .reasons = true, .opens_in_reasoning = false};
constexpr ReplyStyle kPlain{};

TEST(ReplyParser, KnownAnswers) {
  const struct {
    ReplyStyle style;
    std::string text;
    Whole want;
  } cases[] = {
      {kPlain, "<think>a</think><tool_call>", {"", "<think>a</think><tool_call>", {}}},
      {kR1, "\nhm\nhm\n</think>\n\nFour.\n", {"hm\nhm", "Four.\n", {}}},
      {kR1, "never ends\n", {"never ends\n", "", {}}},
      {kQwen, "\n<think>\na\n</think>\n\nb", {"a", "b", {}}},
      {kQwen, "a <think>b</think>", {"", "a <think>b</think>", {}}},
      {kV3,
       "Look:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": "
       "1}\n```<｜tool▁call▁end｜>\n"
       "<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       {"", "Look:", {{"f", "{\"a\": 1}"}, {"g", "{}"}}}},
      {kR1,
       "r</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n{\"a\":[1]}<｜tool▁call▁end｜>"
       "<｜tool▁calls▁end｜>",
       {"r", "", {{"f", "{\"a\":[1]}"}}}},
      {kV31,
       "<think>r</think>ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"x\": \"```\"}<｜tool▁call▁end｜>"
       "<｜tool▁call▁begin｜>g<｜tool▁sep｜><｜tool▁call▁end｜><｜tool▁calls▁end｜>bye",
       {"r", "okbye", {{"f", "{\"x\": \"```\"}"}, {"g", "{}"}}}},
      {kV31, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"x\": 1", {"", "", {{"f", "{\"x\": 1"}}}},
      {kV31, "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>unfinished", {"", "<｜tool▁call▁begin｜>unfinished", {}}},
      {kQwen,
       "I call.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"</tool_call> \\\" }\", \"n\": [1, "
       "2]}}\n</tool_call>\n"
       "<tool_call>\n{\"arguments\": {}, \"name\": \"g\"}\n</tool_call>",
       {"", "I call.", {{"f", "{\"s\": \"</tool_call> \\\" }\", \"n\": [1, 2]}"}, {"g", "{}"}}}},
      {kQwen,
       "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>",
       {"", "", {{"f", "{\"a\":1}"}}}},
      {kQwen, "<tool_call>{\"name\":\"f\"}</tool_call>", {"", "", {{"f", "{}"}}}},
      {kQwen, "<tool_call>not json</tool_call>", {"", "<tool_call>not json</tool_call>", {}}},
      {kQwen, "<tool_call>{\"nam", {"", "<tool_call>{\"nam", {}}},
      {kQwen, "a <tool b", {"", "a <tool b", {}}},
  };
  for (const auto& c : cases) {
    for (const unsigned seed : {0U, 1U, 2U, 3U, 7U}) EXPECT_EQ(parse(c.style, c.text, seed), c.want) << c.text;
  }
}

/// Any order of markers, halves of markers and text: the cutting never matters, and nothing but markers, line breaks
/// and blanks beside them is left out.
TEST(ReplyParser, AnyCuttingGivesTheSameAndNothingIsLost) {
  const std::vector<std::string> parts = {"<think>",
                                          "</think>",
                                          "<｜tool▁calls▁begin｜>",
                                          "<｜tool▁calls▁end｜>",
                                          "<｜tool▁call▁begin｜>",
                                          "<｜tool▁call▁end｜>",
                                          "<｜tool▁sep｜>",
                                          "function",
                                          "\n```json\n",
                                          "\n```",
                                          "<tool_call>",
                                          "</tool_call>",
                                          "\n",
                                          "\n\n\n",
                                          "<",
                                          "</",
                                          "<｜tool",
                                          "{\"name\": \"f\", \"arguments\": {\"a\": \"b\"}}",
                                          "{\"name\"",
                                          "\"x\\\"",
                                          "{",
                                          "}",
                                          "text",
                                          "中文",
                                          " ",
                                          ",",
                                          ":",
                                          "\\",
                                          std::string(70, '\n'),
                                          std::string(1100, 'x')};
  std::mt19937 random(5);
  const std::vector<ReplyStyle> styles = {kPlain, kV3, kR1, kV31, kQwen};
  for (unsigned round = 1; round <= 4000; ++round) {
    std::string text;
    for (auto n = random() % 14; n-- > 0;) text += parts[random() % parts.size()];
    const ReplyStyle style = styles[random() % styles.size()];
    const Whole whole = parse(style, text);
    ASSERT_EQ(parse(style, text, round), whole) << text;
    // Every letter that is in no marker comes out exactly once, in some part.
    const auto letters = [](const std::string& s, char c) { return std::count(s.begin(), s.end(), c); };
    std::string all = whole.reasoning + whole.content;
    for (const auto& [name, arguments] : whole.calls) all += name + arguments;
    ASSERT_EQ(letters(all, 'x'), letters(text, 'x')) << text;
  }
}

TEST(ReplyParser, StreamsArgumentsAsTheyCome) {
  ReplyParser parser(kQwen);
  ReplyDelta delta;
  parser.push("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"lo", delta);
  ASSERT_EQ(delta.tool_calls.size(), 1U);
  EXPECT_EQ(delta.tool_calls[0].name, "f");
  EXPECT_EQ(delta.tool_calls[0].arguments, "{\"a\": \"lo");
  delta = {};
  parser.push("ng\"}}", delta);
  ASSERT_EQ(delta.tool_calls.size(), 1U);
  EXPECT_EQ(delta.tool_calls[0].name, "");
  EXPECT_EQ(delta.tool_calls[0].arguments, "ng\"}");
}

TEST(ReplyParser, TellsReasoningFromContentWhileStreaming) {
  ReplyParser parser(kR1);
  EXPECT_TRUE(parser.in_reasoning());
  ReplyDelta delta;
  parser.push("hm</thi", delta);
  EXPECT_EQ(delta.reasoning, "hm");
  EXPECT_TRUE(parser.in_reasoning());
  parser.push("nk>x", delta);
  EXPECT_FALSE(parser.in_reasoning());
  EXPECT_EQ(delta.content, "x");
}

TEST(ReplyParser, ALongAnswerIsLinear) {
  ReplyParser parser(kQwen);
  ReplyDelta delta;
  std::string text(1U << 20U, '\n');
  for (std::size_t at = 0; at < text.size(); at += 4) parser.push(std::string_view(text).substr(at, 4), delta);
  parser.finish(delta);
  EXPECT_EQ(delta.content.size(), text.size());
}

}  // namespace
}  // namespace hp
