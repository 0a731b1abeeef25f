#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "base/json.h"
#include "text/grammar_matcher.h"
#include "text/json_schema.h"
#include "text/limits.h"
#include "text/regex_dfa.h"

namespace hp {
namespace {

/// Bytes 0 to 255 as tokens of their own, some longer ones that cross the parts of JSON, an end and two special tokens.
TokenizerSource byte_source() {
  TokenizerSource source;
  source.kind = TokenizerKind::sentencepiece_bpe;
  for (int b = 0; b < 256; ++b) {
    source.tokens.push_back(fmt::format("<0x{:02X}>", b));
    source.types.push_back(TokenType::byte);
  }
  for (const char* text : {"\":",
                           "\",\"",
                           "\"}",
                           "{\"",
                           "true",
                           "12",
                           "hello",
                           "ab\"",
                           "aé",
                           "\\n",
                           "]}",
                           "}}",
                           "a\",\u2581\"b",
                           "\n\u2581\u2581",
                           "\t\t",
                           "100",
                           "0.5",
                           "-3",
                           "red",
                           "re",
                           "ed\"",
                           "20",
                           "24-0",
                           "-1",
                           "\":\u2581\"",
                           "é\"",
                           "null",
                           ",\n"}) {
    source.tokens.emplace_back(text);
    source.types.push_back(TokenType::normal);
  }
  for (const char* text : {"<|end|>", "<tool_call>", "</tool_call>", "</think>"}) {
    source.tokens.emplace_back(text);
    source.types.push_back(TokenType::control);
  }
  source.scores.assign(source.tokens.size(), 0);
  source.end_of_generation = {static_cast<TokenId>(source.tokens.size() - 4)};
  return source;
}

struct World {
  std::shared_ptr<const Tokenizer> shared = std::make_shared<const Tokenizer>(Tokenizer::build(byte_source()).value());
  const Tokenizer& tokenizer = *shared;
  TokenId end = tokenizer.source().end_of_generation[0];
  std::shared_ptr<const TokenTrie> trie = std::make_shared<const TokenTrie>(shared, std::vector<TokenId>{end, 999999});
};

World& world() {
  static World kWorld;
  return kWorld;
}

bool allows(GrammarMatcher& matcher, TokenId token) {
  TokenMask mask(world().trie->mask_words() + 1, ~std::uint64_t{0});
  matcher.allowed(mask);
  EXPECT_EQ(mask.back(), 0U) << "bits beyond the vocabulary are cleared";
  return (mask[static_cast<std::size_t>(token) / 64] >> (static_cast<std::size_t>(token) % 64) & 1U) != 0;
}

/// Whether the grammar takes the text byte by byte and may end there.
bool takes(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  GrammarMatcher matcher(grammar, world().trie);
  for (const char c : text) {
    const auto token = static_cast<TokenId>(static_cast<std::uint8_t>(c));
    if (!allows(matcher, token)) return false;
    matcher.accept(token);
  }
  return matcher.finished() && allows(matcher, world().end);
}

std::shared_ptr<const Grammar> schema(std::string_view text) {
  auto grammar = json_schema_grammar(text);
  EXPECT_TRUE(grammar) << (grammar ? "" : grammar.error().message) << " " << text;
  return grammar ? *grammar : nullptr;
}

/// Random tokens that the masks allow, until the end.
std::string random_text(GrammarMatcher& matcher, std::mt19937& random, std::size_t most = 400) {
  std::string text;
  for (std::size_t n = 0; n < most; ++n) {
    TokenMask mask(world().trie->mask_words(), ~std::uint64_t{0});
    matcher.allowed(mask);
    std::vector<TokenId> choices;
    for (TokenId t = 0; t < world().tokenizer.vocab_size(); ++t) {
      if ((mask[static_cast<std::size_t>(t) / 64] >> (static_cast<std::size_t>(t) % 64) & 1U) != 0)
        choices.push_back(t);
    }
    EXPECT_FALSE(choices.empty());
    const bool may_end = std::find(choices.begin(), choices.end(), world().end) != choices.end();
    EXPECT_EQ(may_end, matcher.finished()) << text;
    if (may_end && random() % 4 == 0) return text;
    const TokenId token = choices[random() % choices.size()];
    if (token == world().end) return text;
    matcher.accept(token);
    text += world().tokenizer.token_bytes(token);
  }
  return {};
}

TEST(Grammar, SchemasTakeWhatTheyShould) {
  const struct {
    const char* schema;
    std::vector<const char*> yes, no;
  } cases[] = {
      {"true",
       {"{}", "[1, 2]", "\"a\"", "null", "-1.5e3", "{\"a\": [true,{}]}"},
       {"", "nul", "01", "[1,]", "{\"a\"}", "\"\t\"", "1.e"}},
      {R"({"type":"object"})", {"{}", "{\"a\":1}", "{ \"a\": 1,\n  \"b\": {}}"}, {"[]", "{a:1}", "{\"a\":1,}"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["b"]})",
       {"{\"a\":1,\"b\":\"x\"}", "{\"b\": \"\"}"},
       {"{\"a\":1}", "{\"b\":\"x\",\"a\":1}", "{\"b\":\"x\",\"c\":1}", "{\"a\":1.0,\"b\":\"\"}"}},
      {R"({"type":"object","properties":{"ab":{"type":"null"}},"additionalProperties":{"type":"boolean"}})",
       {"{}", "{\"ab\":null}", "{\"a\":true,\"abc\":false}", "{\"ab\":null,\"é\":true}"},
       {"{\"ab\":true}", "{\"a\":null}", "{\"\\u0061b\":true}"}},
      {R"({"enum":["red","rot",3,null,{"a":[1]}]})",
       {"\"red\"", "\"rot\"", "3", "null", "{\"a\":[1]}"},
       {"\"re\"", "4", "{}"}},
      {R"({"const":"x\"y"})", {"\"x\\\"y\""}, {"\"x\""}},
      {R"({"type":["string","null"],"maxLength":2})",
       {"null", "\"\"", "\"ab\"", "\"éé\"", "\"\\n\\u00e9\""},
       {"\"abc\"", "\"ééé\"", "1"}},
      {R"({"type":"string","minLength":2})", {"\"ab\"", "\"é😀\"", "\"abcdefghijk\""}, {"\"\"", "\"a\"", "\"😀\""}},
      {R"({"type":"string","pattern":"^[A-Z]{2}-\\d+$"})",
       {"\"AB-1\"", "\"ZZ-0042\""},
       {"\"AB-\"", "\"aB-1\"", "\"AB-1x\""}},
      {R"({"type":"string","pattern":"b"})", {"\"b\"", "\"abc\"", "\"é\\nb\""}, {"\"\"", "\"ac\""}},
      {R"({"type":"string","pattern":"^(ab|c\"|[^a-y\\s])*$","maxLength":4})",
       {"\"\"", "\"abab\"", "\"c\\\"z~\""},
       {"\"ababab\"", "\"a\"", "\"q\""}},
      {R"({"type":"string","format":"date"})", {"\"2024-02-28\""}, {"\"2024-13-01\"", "\"x\""}},
      {R"({"type":"integer","minimum":-3,"maximum":12})",
       {"-3", "-1", "0", "9", "12"},
       {"-4", "13", "20", "-0", "1.0", "00"}},
      {R"({"type":"integer","exclusiveMinimum":98,"exclusiveMaximum":1002})",
       {"99", "100", "1001"},
       {"98", "1002", "9"}},
      {R"({"type":"integer","multipleOf":7,"minimum":0})", {"0", "7", "14", "7007"}, {"8", "13", "-7"}},
      {R"({"type":"number","minimum":0.5,"maximum":1.25})",
       {"0.5", "0.5000", "1", "1.0", "1.25", "0.77"},
       {"0.4999", "0", "1.26", "1.2501", "-0.7", "5e-1"}},
      {R"({"type":"number","exclusiveMinimum":0})", {"0.1", "3", "12345.678"}, {"0", "0.0", "-1"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
       {"[1]", "[1,2, 3]"},
       {"[]", "[1,2,3,4]", "[1,]"}},
      {R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false})",
       {"[]", "[null]", "[null,true]"},
       {"[true]", "[null,true,1]"}},
      {R"({"type":"array","prefixItems":[{"type":"null"}],"items":{"type":"integer"}})",
       {"[null,1,2,3]", "[null]", "[]"},
       {"[1]", "[null,null]"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"object","properties":{"x":{"const":1}},"required":["x"]}]})",
       {"5", "{\"x\":1}"},
       {"{}", "{\"x\":2}"}},
      {R"({"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"null"}},"required":["b"]}]})",
       {"{\"a\":1,\"b\":null}"},
       {"{\"a\":1}", "{\"b\":null}"}},
      {R"({"type":"integer","minimum":3,"allOf":[{"maximum":5},{"minimum":4}]})", {"4", "5"}, {"3", "6"}},
      {R"({"$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},
         "required":["v","next"]}},"$ref":"#/$defs/n"})",
       {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":{\"v\":3,\"next\":null}}}"},
       {"{\"v\":1}", "null"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"},"maxProperties":2})",
       {"{}", "{\"a\":1,\"b\":2}"},
       {"{\"a\":1,\"b\":2,\"c\":3}"}},
  };
  for (const auto& c : cases) {
    const auto grammar = schema(c.schema);
    ASSERT_TRUE(grammar);
    for (const char* text : c.yes) EXPECT_TRUE(takes(grammar, text)) << c.schema << " should take " << text;
    for (const char* text : c.no) EXPECT_FALSE(takes(grammar, text)) << c.schema << " should not take " << text;
  }
}

TEST(Grammar, TokensThatCrossPartsAreJudgedWhole) {
  const auto& t = world().tokenizer;
  const auto id = [&](std::string_view text) {
    for (TokenId i = 256; i < t.vocab_size(); ++i) {
      if (t.token_bytes(i) == text) return i;
    }
    return TokenId{-1};
  };
  GrammarMatcher matcher(
      schema(R"({"type":"object","properties":{"a":{"type":"string","maxLength":3},"b":{"type":"integer"}},
                                    "required":["a","b"]})"),
      world().trie);
  EXPECT_TRUE(allows(matcher, id("{\"")));
  EXPECT_FALSE(allows(matcher, id("true")));
  matcher.accept(id("{\""));
  EXPECT_TRUE(allows(matcher, 'a'));
  EXPECT_FALSE(allows(matcher, id("ab\"")));
  matcher.accept('a');
  EXPECT_TRUE(allows(matcher, id("\":")));
  matcher.accept(id("\":"));
  matcher.accept('"');
  EXPECT_TRUE(allows(matcher, id("ab\"")));
  EXPECT_TRUE(allows(matcher, id("aé")));
  EXPECT_FALSE(allows(matcher, id("hello"))) << "longer than maxLength";
  EXPECT_FALSE(allows(matcher, id("\"}"))) << "b is missing";
  EXPECT_TRUE(allows(matcher, id("a\", \"b"))) << "closes the string and opens the next key";
  matcher.accept(id("a\", \"b"));
  matcher.accept(id("\":"));
  EXPECT_TRUE(allows(matcher, id("12")));
  matcher.accept(id("12"));
  EXPECT_FALSE(matcher.finished());
  matcher.accept('}');
  EXPECT_TRUE(matcher.finished());
  EXPECT_FALSE(allows(matcher, ' '));
  EXPECT_TRUE(allows(matcher, world().end));
}

/// Every byte is a token here: a text that nothing can follow and that is not whole came against the grammar.
bool goes_on(GrammarMatcher& matcher) {
  TokenMask mask(world().trie->mask_words(), ~std::uint64_t{0});
  matcher.allowed(mask);
  mask[static_cast<std::size_t>(world().end) / 64] &=
      ~(std::uint64_t{1} << (static_cast<std::size_t>(world().end) % 64));
  return matcher.finished() || std::any_of(mask.begin(), mask.end(), [](std::uint64_t w) { return w != 0; });
}

/// The mask of any state equals what feeding each token byte by byte would say.
TEST(Grammar, MasksEqualTheNaiveAnswer) {
  std::mt19937 random(3);
  for (
      const char* text :
      {"true", R"({"type":"string","minLength":1,"maxLength":4})", R"({"type":"string","pattern":"^a[^x]*b$"})",
       R"({"type":"array","items":{"anyOf":[{"type":"string","maxLength":2},{"type":"number"}]}})",
       R"({"type":"object","properties":{"a":{"type":"string","format":"date"},"b":{"type":"number","minimum":0.5,"maximum":101}}})",
       R"({"type":"object","properties":{"ab":{"enum":["red","rot",null,20]}},"additionalProperties":{"type":"integer"}})",
       R"({"type":"string","pattern":"^(red|re|ab\")*[^a-y\\s]{0,3}$"})"}) {
    const auto grammar = schema(text);
    std::vector<TokenId> path;
    for (int round = 0; round < 80; ++round) {
      GrammarMatcher matcher(grammar, world().trie);
      for (const TokenId t : path) matcher.accept(t);
      std::vector<TokenId> choices;
      for (TokenId t = 0; t < world().end; ++t) {
        GrammarMatcher naive = matcher;
        for (const char c : world().tokenizer.token_bytes(t)) naive.accept(static_cast<std::uint8_t>(c));
        const bool alive = goes_on(naive);
        ASSERT_EQ(allows(matcher, t), alive) << text << " token " << t << " after " << world().tokenizer.decode(path);
        if (alive) choices.push_back(t);
      }
      if (choices.empty() || path.size() > 20) {
        path.clear();
      } else {
        path.push_back(choices[random() % choices.size()]);
      }
    }
  }
}

/// What answers share must not show: masks of a cached automaton, also when it came from another schema.
TEST(Grammar, PatternsAreKeptForFurtherAnswers) {
  const auto first = schema(R"({"type":"string","pattern":"^a[^x]*b$"})");
  const auto second = schema(R"({"type":"array","items":{"type":"string","pattern":"^a[^x]*b$"}})");
  const auto other = schema(R"({"type":"string","pattern":"^a[^y]*b$"})");
  const auto kept = world().trie->pattern(first->dfas.at(1));
  EXPECT_EQ(kept, world().trie->pattern(second->dfas.at(1)));
  EXPECT_NE(kept, world().trie->pattern(other->dfas.at(1)));
  EXPECT_EQ(kept->at(1), kept->at(1));
  EXPECT_TRUE(takes(first, "\"ayb\""));
  EXPECT_FALSE(takes(other, "\"ayb\""));
  EXPECT_TRUE(takes(second, "[\"ayb\"]"));
  for (std::size_t i = 0; i < text_limits::kPatternsKept; ++i)
    static_cast<void>(
        world().trie->pattern(schema(fmt::format(R"({{"type":"string","pattern":"^{}$"}})", i))->dfas.at(1)));
  EXPECT_NE(kept, world().trie->pattern(first->dfas.at(1))) << "the one used longest ago is forgotten";
}

TEST(Grammar, RandomWalksAreJson) {
  std::mt19937 random(11);
  int whole = 0;
  const auto object = json_object_grammar().value();
  const auto nested =
      schema(R"({"type":"object","properties":{"s":{"type":"string","maxLength":5},"n":{"type":"number"},
      "l":{"type":"array","items":{"type":"boolean"},"maxItems":3}},"required":["s","n","l"]})");
  for (int round = 0; round < 200; ++round) {
    GrammarMatcher matcher(round % 2 == 0 ? nested : object, world().trie);
    const std::string text = random_text(matcher, random);
    if (text.empty()) continue;
    ++whole;
    EXPECT_TRUE(JsonValue::parse(text, 400)) << text;
  }
  EXPECT_GT(whole, 100);
}

TEST(Grammar, HostileSchemasAreRefusedQuickly) {
  const auto deep = [] {
    std::string text;
    for (int i = 0; i < 5000; ++i) text += R"({"items":)";
    return text + "true" + std::string(5000, '}');
  }();
  const auto doubling = [](const char* key) {
    std::string text = R"({"$defs":{)";
    for (int i = 0; i < 40; ++i) {  // two branches that are equal and do not look it
      text += fmt::format(R"("d{}":{{"{}":[{{"$ref":"#/$defs/d{}"}},{{"allOf":[{{"$ref":"#/$defs/d{}"}}]}}]}},)", i,
                          key, i + 1, i + 1);
    }
    return text + R"("d40":{"type":"null"}},"$ref":"#/$defs/d0"})";
  };
  std::string many = R"({"enum":[)";
  for (int i = 0; i < 60000; ++i) many += fmt::format("\"{}\",", i * 7919);
  const std::vector<std::string> refused = {
      deep,
      doubling("allOf"),
      many,
      R"({"$ref":"#"})",
      R"({"anyOf":[{"$ref":"#"},{"$ref":"#"}]})",
      R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
      R"({"type":"array","items":{"$ref":"#"},"minItems":1})",
      R"({"type":"array","items":{"type":"array","items":{"type":"array","minItems":9999,"maxItems":9999},"minItems":9999},"minItems":20000})",
      R"({"type":"string","pattern":"^(((a{1000}){1000}){1000})$"})",
      R"({"type":"string","pattern":"(a|b)*a(a|b){30}$"})",
      R"({"type":"string","pattern":"^[a-z]{10}$","minLength":11})",
      R"({"type":"integer","minimum":3,"maximum":2})",
      R"({"allOf":[{"type":"string"},{"type":"integer"}]})",
      R"({"type":"string","pattern":"(?=x)y"})",
      R"({"not":{"type":"null"}})",
      R"({"type":"array","uniqueItems":true})",
      R"({"$ref":"http://elsewhere/schema"})",
      R"({"$ref":"#/$defs/none"})",
      R"({"type":"strin"})",
      R"({"enum":[]})",
      "false",
      "3",
      "{",
  };
  for (const std::string& text : refused) {
    const auto grammar = json_schema_grammar(text);
    EXPECT_FALSE(grammar) << text.substr(0, 100);
    if (grammar) continue;
    EXPECT_EQ(grammar.error().code, ErrorCode::invalid_argument) << text.substr(0, 100);
  }
  // The same doubling with anyOf has a small grammar, and no text follows many of its readings at once.
  const auto grammar = json_schema_grammar(doubling("anyOf"));
  ASSERT_TRUE(grammar) << grammar.error().message;
  EXPECT_TRUE(takes(*grammar, "null"));
}

/// Whoever always takes the first way that goes on would nest for ever; the depth limit lets him end.
TEST(Grammar, RecursionComesToAnEnd) {
  const auto grammar =
      schema(R"({"type":"object","properties":{"a":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["a"]})");
  GrammarMatcher matcher(grammar, world().trie);
  std::string text;
  while (!matcher.finished() && text.size() < 10000) {
    for (const char c : std::string_view("{}\"a:nul")) {
      if (!allows(matcher, static_cast<TokenId>(c))) continue;
      matcher.accept(static_cast<TokenId>(c));
      text += c;
      break;
    }
  }
  EXPECT_TRUE(matcher.finished());
  EXPECT_GT(text.size(), 50U);
  EXPECT_TRUE(JsonValue::parse(text)) << text;
}

TEST(Grammar, ForcedToolCalls) {
  const std::vector<ChatTool> tools = {
      {.name = "f",
       .description = "",
       .parameters = R"({"type":"object","properties":{"x":{"type":"integer"}},"required":["x"]})",
       .raw = ""},
      {.name = "go", .description = "", .parameters = "", .raw = ""}};
  const auto& t = world().tokenizer;
  const auto grammar = tool_call_grammar(ToolSyntax::qwen, tools, true, t);
  ASSERT_TRUE(grammar) << grammar.error().message;
  GrammarMatcher matcher(*grammar, world().trie, t.special("</think>"));
  EXPECT_TRUE(allows(matcher, 'x')) << "reasoning is free";
  EXPECT_FALSE(allows(matcher, world().end));
  matcher.accept('x');
  matcher.accept(*t.special("</think>"));
  EXPECT_FALSE(allows(matcher, 'x'));
  ASSERT_TRUE(allows(matcher, *t.special("<tool_call>")));
  EXPECT_FALSE(allows(matcher, '<')) << "the marker is the special token, not its spelling";
  matcher.accept(*t.special("<tool_call>"));
  for (const char c : std::string_view("\n{\"name\": \"f\", \"arguments\": {\"x\":1}}\n")) {
    ASSERT_TRUE(allows(matcher, static_cast<TokenId>(c))) << c;
    matcher.accept(static_cast<TokenId>(c));
  }
  ASSERT_TRUE(allows(matcher, *t.special("</tool_call>")));
  matcher.accept(*t.special("</tool_call>"));
  EXPECT_TRUE(matcher.finished());
  EXPECT_TRUE(allows(matcher, '\n')) << "another call may follow";
  EXPECT_EQ(json_schema_grammar(R"({"type":"strin"})").error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace hp
