#include "base/log.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"

namespace hp {
namespace {

std::string captured(const log::Options& options, std::string_view message) {
  log::configure(options);
  testing::internal::CaptureStderr();
  log::info("{}", message);
  const std::string out = testing::internal::GetCapturedStderr();
  log::configure({});
  return out;
}

TEST(Log, OneEventIsOneLineWhateverAClientSends) {
  const std::string out = captured({}, "a\nforged {} \x1b[31m\r\xC3\xA9");
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1);
  EXPECT_NE(out.find("a\\x0aforged {} \\x1b[31m\\x0d\xC3\xA9\n"), std::string::npos) << out;
}

TEST(Log, JsonLinesAreJson) {
  const std::string out = captured({.format = log::Format::json}, "say \"hi\"\n\xFF");
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1);
  const auto line = JsonValue::parse(out);
  ASSERT_TRUE(line.has_value()) << out;
  EXPECT_EQ(*line->find("message")->as_string(), "say \"hi\"\n\xEF\xBF\xBD");
  EXPECT_EQ(*line->find("level")->as_string(), "info");
}

TEST(Log, LevelsBelowTheThresholdAreSilent) {
  EXPECT_EQ(captured({.level = log::Level::warn}, "quiet"), "");
  EXPECT_EQ(captured({.level = log::Level::off}, "quiet"), "");
}

}  // namespace
}  // namespace hp
