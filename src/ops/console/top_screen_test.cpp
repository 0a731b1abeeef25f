#include "ops/console/top_screen.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ops/console/console_view.h"

namespace hp::ops {
namespace {

JsonValue view_of(int nodes, const std::string& odd) {
  std::string text =
      R"({"cluster":{"at_ms":1700000000000,"nodes":)" + std::to_string(nodes) + R"(,"usable_nodes":)" +
      std::to_string(nodes - 1) +
      R"(,"serving_group":0,"requests_per_s":12.5,"tokens_per_s":34567,"first_token":{"p50_s":0.1,"p99_s":1.5},"gap":{}},)"
      R"("incidents":[{"id":1,"level":1,"state":"open","en":"A node does not answer","instance":"n3","started_ms":1699999990000,"timeline":[{"kind":"action","action":"switch_group"}]}],)"
      R"("alerts":[{"rule":"dead_man","phase":"firing"},{"rule":"kv","phase":"pending","en":)";
  append_json_string(text, odd);
  text += R"(,"value":0.91,"threshold":0.9}],"nodes":[)";
  for (int i = 0; i < nodes; ++i) {
    text += i > 0 ? "," : "";
    text += R"({"name":)";
    append_json_string(text, i == 1 ? odd : "node" + std::to_string(i));
    text +=
        R"(,"condition":")" + std::string(i == 3 ? "unreachable" : "ready") +
        R"(","group":0,"running":3,"waiting":0,"kv_usage":0.)" + std::to_string(i % 9 + 1) +
        R"(,"tokens_per_s":100,"first_token":{"p99_s":0.2},"host":{"cpu_ratio":0.5},"gpus":[{"utilization":0.5,"temperature_c":61}]})";
  }
  const auto json = JsonValue::parse(text + "]}");
  EXPECT_TRUE(json) << json.error().message;
  return *json;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    out.push_back(text.substr(at, text.find('\n', at) - at));
  return out;
}

TEST(TopScreen, FitsEveryTerminal) {
  for (const std::size_t columns : {20, 40, 80, 132})
    for (const std::size_t rows : {1, 5, 24, 60}) {
      const auto lines = lines_of(top_screen(view_of(40, "odd"), {columns, rows, false}));
      EXPECT_LE(lines.size(), rows);
      for (const std::string& line : lines) EXPECT_LE(fitted(line, columns).size(), std::max(columns * 4, line.size()));
      for (const std::string& line : lines)
        EXPECT_LE(std::ranges::count_if(line, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }),
                  static_cast<std::ptrdiff_t>(columns));
    }
}

TEST(TopScreen, BadNodesFirstAndTheRestIsCounted) {
  const auto lines = lines_of(top_screen(view_of(40, "odd"), {80, 12, false}));
  EXPECT_TRUE(lines[0].starts_with("homeport  ATTENTION  nodes 39/40  group 0 serves  1 incidents")) << lines[0];
  EXPECT_TRUE(lines[4].starts_with("! level 1 A node does not answer  n3  10s  last: action switch_group")) << lines[4];
  EXPECT_TRUE(lines[5].starts_with("~ pending odd")) << lines[5];
  EXPECT_TRUE(lines[7].starts_with("node3          unreachable")) << lines[7];
  EXPECT_EQ(lines.back(), "… and 36 more nodes");
}

TEST(TopScreen, NamesCannotSteerTheTerminal) {
  const std::string screen = top_screen(view_of(5,
                                                "a\x1b[2J\x07\xc2\x9b"
                                                "31m\xe2\x80\xae"
                                                "b\r\n"),
                                        {80, 24, false});
  EXPECT_EQ(screen.find('\x1b'), std::string::npos);
  EXPECT_EQ(screen.find('\x07'), std::string::npos);
  EXPECT_EQ(screen.find("\xc2\x9b"), std::string::npos);
  EXPECT_EQ(screen.find("\xe2\x80\xae"), std::string::npos);
  EXPECT_EQ(screen.find('\r'), std::string::npos);
  EXPECT_NE(top_screen(view_of(5, "x"), {80, 24, true}).find("\x1b["), std::string::npos);
}

TEST(TopScreen, TextInCells) {
  EXPECT_EQ(fitted("abc", 5), "abc  ");
  EXPECT_EQ(fitted("abcdef", 3), "abc");
  EXPECT_EQ(fitted("节点无", 5), "节点 ") << "two cells each";
  EXPECT_EQ(fitted("\xff\xfe", 2), "??");
  EXPECT_EQ(fitted("\xe8\x8a", 3), "?? ");
}

TEST(TopScreen, SurvivesAnEmptyPicture) {
  EXPECT_NE(top_screen(JsonValue{JsonValue::Object{}}, {}).find("DOWN"), std::string::npos);
}

TEST(ConsoleView, JsonOfAPictureReadsBack) {
  ClusterView view;
  view.nodes.push_back({.name = "a\"<b>", .kv_usage = 0.5});
  view.tenants.push_back({.name = ""});
  const auto json = JsonValue::parse(view_json(view));
  ASSERT_TRUE(json) << json.error().message;
  EXPECT_EQ(*json->find("nodes")->as_array()->at(0).find("name")->as_string(), "a\"<b>");
  EXPECT_TRUE(json->find("cluster")->find("kv_usage")->is_null()) << "not known is not 0";
  EXPECT_EQ(json->find("tenants")->as_array()->size(), 1U);
}

TEST(ConsoleView, LatenciesFromThePage) {
  History history;
  const auto page = [](int n) {
    return fmt::format(
        "homeport_gateway_time_to_first_token_seconds_bucket{{le=\"0.1\"}} 0\n"
        "homeport_gateway_time_to_first_token_seconds_bucket{{le=\"0.5\"}} {}\n"
        "homeport_gateway_time_to_first_token_seconds_bucket{{le=\"+Inf\"}} {}\n",
        n, n);
  };
  for (int i = 0; i < 12; ++i) {
    history.advance(1'700'000'000'000 + i * 1000);
    record_latencies(history, page(10 * i));
    record_latencies(history, "garbage homeport_gateway_event_gap_seconds_bucket{le=\"x");
  }
  const auto table = history.query(0, std::vector<std::string>{"ttft:p50"}, 1000);
  ASSERT_EQ(table.columns.size(), 1U);
  EXPECT_NEAR(table.columns[0].values.back(), 0.3, 1e-3);
}

}  // namespace
}  // namespace hp::ops
