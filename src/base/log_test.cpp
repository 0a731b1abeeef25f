#include "base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

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

TEST(Log, APipeThatNobodyReadsStopsNothing) {
  int ends[2] = {};
  ASSERT_EQ(::pipe(ends), 0);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  log::configure({.level = log::Level::info});
  for (int i = 0; i < 5'000; ++i) log::info("line {} {}", i, std::string(80, 'x'));  // a pipe holds 64 KiB
  std::string read(1 << 20, '\0');
  const auto first = ::read(ends[0], read.data(), read.size());
  EXPECT_GT(first, 0);
  log::info("after");
  ::dup2(before, STDERR_FILENO);
  ::close(ends[1]);
  std::string rest;
  for (ssize_t n = 0; (n = ::read(ends[0], read.data(), read.size())) > 0;)
    rest.append(read.data(), static_cast<std::size_t>(n));
  ::close(ends[0]);
  ::close(before);
  log::configure({.level = log::Level::off});
  EXPECT_NE(rest.find("log lines were dropped: nobody read them"), std::string::npos);
  EXPECT_NE(rest.find("after"), std::string::npos);
}

}  // namespace
}  // namespace hp
