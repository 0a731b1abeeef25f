#include "node/stop_matcher.h"

#include <gtest/gtest.h>

namespace hp {
namespace {

struct Case {
  std::vector<std::string> stops;
  std::string text, want;
  bool stopped;
};

const Case kCases[] = {
    {{}, "hello", "hello", false},      {{""}, "hello", "hello", false},    {{"lo"}, "hello", "hel", true},
    {{"lol"}, "hello", "hello", false}, {{"aab"}, "aaab!", "a", true},      {{"END", "EN"}, "xEND", "x", true},
    {{"bcd", "c"}, "abcd", "ab", true}, {{"abc", "bc"}, "xabc", "x", true}, {{"\xc3\xa9"}, "caf\xc3\xa9!", "caf", true},
};

TEST(StopMatcher, EveryCuttingGivesTheSame) {
  for (const Case& c : kCases) {
    for (std::size_t step = 1; step <= c.text.size(); ++step) {
      StopMatcher matcher(c.stops);
      std::string out;
      for (std::size_t at = 0; at < c.text.size(); at += step) {
        matcher.push(std::string_view(c.text).substr(at, step), out);
      }
      matcher.finish(out);
      EXPECT_EQ(out, c.want) << c.text << " in steps of " << step;
      EXPECT_EQ(matcher.stopped(), c.stopped) << c.text << " in steps of " << step;
    }
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"stop"});
  std::string out;
  EXPECT_FALSE(matcher.push("we sto", out));
  EXPECT_EQ(out, "we ");
  EXPECT_EQ(matcher.held_bytes(), 3U);
  EXPECT_FALSE(matcher.push("re", out));
  EXPECT_EQ(out, "we store");
  EXPECT_EQ(matcher.held_bytes(), 0U);
}

}  // namespace
}  // namespace hp
