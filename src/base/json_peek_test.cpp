#include "base/json_peek.h"

#include <gtest/gtest.h>

#include <map>

namespace hp {
namespace {

std::map<std::string, std::string> members(std::string body, bool* ok = nullptr) {
  std::map<std::string, std::string> found;
  const auto status =
      visit_members(body, [&](std::string_view key, std::string_view raw) { found[std::string(key)] = raw; });
  if (ok != nullptr) *ok = status.has_value();
  return found;
}

TEST(JsonPeek, GivesTheRawTextOfEveryMember) {
  bool ok = false;
  const auto found = members(
      " {\"model\" : \"a\\\"b\" , \"messages\":[ {\"x\":[1,{}]} ] ,\"n\": 2 ,\"t\":true,\"z\":null, "
      "\"o\":{\"a\":\"}\"}, "
      "\"k\\u0065y\":-1.5e3} \n",
      &ok);
  EXPECT_TRUE(ok);
  EXPECT_EQ(found.at("model"), "\"a\\\"b\"");
  EXPECT_EQ(json_string_value(found.at("model")), "a\"b");
  EXPECT_EQ(found.at("messages"), "[ {\"x\":[1,{}]} ]");
  EXPECT_EQ(found.at("n"), "2");
  EXPECT_EQ(found.at("t"), "true");
  EXPECT_EQ(found.at("z"), "null");
  EXPECT_EQ(found.at("o"), "{\"a\":\"}\"}");
  EXPECT_EQ(found.at("key"), "-1.5e3");
  EXPECT_EQ(json_string_value("12"), "");
}

TEST(JsonPeek, RefusesWhatIsNotOneObject) {
  for (const char* text : {"", " ", "[]", "1", "\"x\"", "{", "{\"a\"", "{\"a\":1", "{\"a\":1}}", "{\"a\":1} {}",
                           "{\"a\":\"x}", "{\"a\":1,}", "{\"a\" 1}", "{\"\xff\":1}", "nul"}) {
    bool ok = true;
    (void)members(text, &ok);
    EXPECT_FALSE(ok) << text;
  }
  bool ok = false;
  EXPECT_TRUE(members("{}", &ok).empty());
  EXPECT_TRUE(ok);
  EXPECT_EQ(members("{\"a\":\"" + std::string(3 << 20, 'x') + "\"}", &ok).at("a").size(), (3u << 20) + 2);
}

}  // namespace
}  // namespace hp
