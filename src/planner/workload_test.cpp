#include "planner/workload.h"

#include <gtest/gtest.h>

namespace hp::planner {
namespace {

TEST(AccessLog, ThreeWaysToWriteTheSameTime) {
  const std::string common = "1.2.3.4 - - [24/Nov/2026:13:55:36 +0000] \"POST /v1/chat/completions HTTP/1.1\" 200 5\n";
  const std::string iso = "INFO request-id-7 2026-11-24T13:55:59Z done\n";
  const std::string epoch = "1795528597.25 POST\n";  // 13:56:37
  const auto load = load_of_log(common + iso + epoch + "Traceback\n", "a.log");
  ASSERT_TRUE(load.has_value()) << load.error().message;
  EXPECT_EQ(load->requests, 3U);
  EXPECT_EQ(load->skipped, 1U);
  ASSERT_EQ(load->curve.requests_per_second.size(), 2U);
  EXPECT_DOUBLE_EQ(load->curve.requests_per_second[0], 2.0 / 60);
  EXPECT_DOUBLE_EQ(load->peak_minute_rps, 2.0 / 60);
  EXPECT_DOUBLE_EQ(load->mean_rps, 3.0 / 120);
}

TEST(AccessLog, NoTimesIsASentence) {
  EXPECT_NE(load_of_log("hello\nworld\n", "a.log").error().message.find("found a time in 0 of 2 lines"),
            std::string::npos);
  EXPECT_FALSE(load_of_log("", "a.log").has_value());
  EXPECT_FALSE(load_of_log("[99/Nov/2026:13:55:36 +0000]\n", "a.log").has_value());
  EXPECT_FALSE(load_of_log("2001-01-01T00:00:00\n2026-01-01T00:00:00\n", "a.log").has_value()) << "25 years";
}

}  // namespace
}  // namespace hp::planner
