#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/utf8.h"

namespace hp {
namespace {

TEST(Json, ReadsEveryKindAndWritesItBack) {
  const std::string text = R"({"a":[1,-2.5,true,null,"x\n\u00e9"],"b":{"c":12345678901234}})";
  const auto value = JsonValue::parse(text);
  ASSERT_TRUE(value.has_value()) << value.error().message;
  EXPECT_EQ(value->dump(), "{\"a\":[1,-2.5,true,null,\"x\\n\xC3\xA9\"],\"b\":{\"c\":12345678901234}}");
  EXPECT_EQ(value->find("b")->find("c")->as_int(), 12345678901234);
  EXPECT_EQ(value->find("nothing"), nullptr);
  EXPECT_EQ(value->find("a")->type_name(), "array");
}

TEST(Json, IntegersAndDoubles) {
  EXPECT_EQ(JsonValue::parse("3.0")->as_int(), 3);
  EXPECT_EQ(JsonValue::parse("3.5")->as_int(), std::nullopt);
  EXPECT_EQ(JsonValue::parse("1e300")->as_int(), std::nullopt);
  EXPECT_EQ(JsonValue::parse("7")->as_double(), 7.0);
  EXPECT_FALSE(JsonValue::parse("\"7\"")->as_double().has_value());
  EXPECT_EQ(JsonValue::parse("18446744073709551615")->as_double(), 18446744073709551615.0);
}

TEST(Json, LastOfARepeatedKeyWins) {
  EXPECT_EQ(JsonValue::parse(R"({"a":1,"a":2})")->find("a")->as_int(), 2);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", " ", "{", "{\"a\":}", "[1,]", "01", "NaN", "nul", "\"\x80\"", "\"\xED\xA0\x80\"", "{} x", "'a'"})
    EXPECT_FALSE(JsonValue::parse(text).has_value()) << text;
}

TEST(Json, RefusesWhatIsTooDeep) {
  EXPECT_TRUE(JsonValue::parse(std::string(60, '[') + std::string(60, ']')).has_value());
  const auto deep = JsonValue::parse(std::string(100'000, '['));
  ASSERT_FALSE(deep.has_value());
  EXPECT_EQ(deep.error().code, ErrorCode::invalid_argument);
}

TEST(Json, WriterQuotesAndRepairs) {
  std::string out;
  JsonWriter(out)
      .begin_object()
      .member("k\"", std::string_view("a\x01\xFF\xE4\xB8\xAD\xE4\xB8"))
      .member("n", 1.5)
      .end_object();
  EXPECT_EQ(out, "{\"k\\\"\":\"a\\u0001\xEF\xBF\xBD\xE4\xB8\xAD\xEF\xBF\xBD\",\"n\":1.5}");
  EXPECT_TRUE(JsonValue::parse(out).has_value());
}

TEST(Json, WriterNumbers) {
  std::string out;
  JsonWriter(out)
      .begin_array()
      .value(std::nan(""))
      .value(0.1)
      .value(std::numeric_limits<std::int64_t>::min())
      .value(true)
      .end_array();
  EXPECT_EQ(out, "[null,0.1,-9223372036854775808,true]");
}

TEST(Json, WhatIsWrittenReadsBackAsTheSameNumber) {
  for (const double v : {0.0, -0.0, 0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 1e15, 1e16, 9007199254740993.0}) {
    std::string out;
    JsonWriter(out).value(v);
    const auto back = JsonValue::parse(out);
    ASSERT_TRUE(back.has_value()) << out;
    EXPECT_EQ(*back->as_double(), v) << out;
    EXPECT_EQ(std::signbit(*back->as_double()), std::signbit(v)) << out;
    EXPECT_EQ(back->dump(), out);
  }
}

TEST(Json, SaysWhereUtf8IsBroken) {
  const auto broken = JsonValue::parse("{\"a\":\"\xC3\xA9\xFF\"}");
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().message, "not valid JSON: expected UTF-8, found byte 0xff at offset 8");
}

TEST(Json, UnicodeEscapes) {
  EXPECT_EQ(*JsonValue::parse(R"("\ud83d\ude00\u0000x")")->as_string(), std::string("\xF0\x9F\x98\x80\0x", 6));
  for (const char* text : {R"("\u12")", R"("\ud83d\u0041")", R"("\x41")", "\"\n\"", R"("open)"})
    EXPECT_FALSE(JsonValue::parse(text).has_value()) << text;
}

TEST(Utf8, EveryScalarValueRoundTripsAndSurrogatesDoNot) {
  for (std::uint32_t c = 1; c < 0x110000; ++c) {
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = utf8_step(text);
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(step.valid, !surrogate) << c;
    if (!surrogate) {
      ASSERT_EQ(step.codepoint, c);
    }
  }
}

TEST(Utf8, TellsIncompleteFromBroken) {
  EXPECT_TRUE(utf8_step("\xE4\xB8").incomplete);
  EXPECT_FALSE(utf8_step("\xE4\x41").incomplete);
  EXPECT_EQ(utf8_step("\xF0\x9F\x41").bytes, 2U);
  EXPECT_EQ(utf8_step("\xC0\x80").bytes, 1U);
}

}  // namespace
}  // namespace hp
