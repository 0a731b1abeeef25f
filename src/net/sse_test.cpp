#include "net/sse.h"

#include <gtest/gtest.h>

#include <vector>

namespace hp::net {
namespace {

std::vector<std::string> parse(const std::vector<std::string_view>& pieces) {
  SseParser parser;
  std::vector<std::string> out;
  for (const auto piece : pieces)
    parser.push(piece, [&](const SseEvent& e) { out.push_back(e.id + "|" + e.event + "|" + e.data); });
  return out;
}

TEST(Sse, EverySplitGivesTheSameEvents) {
  const std::string text =
      ": hello\r\ndata: one\r\ndata:two\r\n\r\nid: 7\nevent: x\ndata: {\"a\":1}\n\n\rdata\r\rignored: 1\n\nlast: "
      "x\ndata: [DONE]\n\n";
  const std::vector<std::string> expected{"||one\ntwo", "7|x|{\"a\":1}", "7||", "7||[DONE]"};
  const std::string_view view = text;
  for (std::size_t i = 0; i <= text.size(); ++i)
    for (std::size_t j = i; j <= text.size(); ++j)
      ASSERT_EQ(parse({view.substr(0, i), view.substr(i, j - i), view.substr(j)}), expected) << i << " " << j;
}

TEST(Sse, WrittenEventsReadBack) {
  std::string out;
  append_sse(out, "a\nb\r\nc", "9");
  EXPECT_EQ(out, "id: 9\ndata: a\ndata: b\ndata: c\n\n");
  append_sse(out, "");
  EXPECT_EQ(parse({out}), (std::vector<std::string>{"9||a\nb\nc", "9||"}));
}

}  // namespace
}  // namespace hp::net
