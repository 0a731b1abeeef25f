#include "planner/tco.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/toml.h"

namespace hp::planner {
namespace {

TEST(Tco, PublishedTableToTheFigure) {
  const PublishedTco table = published_tco();
  ASSERT_EQ(table.lines.size(), 4U);
  EXPECT_EQ(table.lines[0].local, 180);
  EXPECT_EQ(table.lines[0].cloud, std::nullopt);
  EXPECT_EQ(table.lines[1].local, 45);
  EXPECT_EQ(table.lines[2].cloud, 72);
  EXPECT_EQ(table.lines[2].local, 108);
  EXPECT_EQ(table.lines[3].cloud, 360);
  EXPECT_EQ(table.lines[3].local, 45);
  EXPECT_EQ(table.cloud_total, 432);
  EXPECT_EQ(table.local_total, 378);
  const auto json = JsonValue::parse(answer_published_tco(Language::en).json);
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(json->find("cloud")->find("total")->as_int(), 432);
  EXPECT_EQ(json->find("local")->find("total")->as_int(), 378);
}

TEST(Tco, ByHand) {
  TcoInputs in;
  in.years = 2;
  in.requests_per_month = 730 * 1000;  // 1,000 an hour
  in.peak_to_mean = 4;
  in.server_requests_per_hour = 1500;
  in.spare_servers = 1;
  in.prompt_tokens = 1000;
  in.output_tokens = 100;
  in.prefix_hit_share = 0.5;
  in.api_miss_per_million = 4;
  in.api_hit_per_million = 1;
  in.api_output_per_million = 16;
  const TcoResult r = total_cost(in);
  EXPECT_EQ(r.servers, 4);  // ceil(4000 / 1500) + 1
  EXPECT_NEAR(r.utilization, 1000.0 / 6000, 1e-12);
  EXPECT_NEAR(r.api_per_request, (500 * 4 + 500 * 1 + 100 * 16) / 1e6, 1e-12);
  EXPECT_NEAR(r.api.tokens, 24 * 730000 * 0.0041, 1e-6);
  EXPECT_NEAR(r.local.electricity, 2 * 8760 * 0.8 * 1.4 * 4 * (1.5 + 4.5 / 6), 1e-6);
  EXPECT_NEAR(r.rented.rent, 2 * 8760 * 4 * 120, 1e-6);
  in.discount_rate = 0.1;
  EXPECT_NEAR(total_cost(in).local.staff, (1 / 1.1 + 1 / 1.21) * 1.5 * 240000, 1e-6);
}

TEST(Tco, BreakEvenIsWhereTheCheaperSideChanges) {
  TcoInputs in;
  in.outage_hours_cloud = in.outage_hours_local;
  EXPECT_EQ(break_even_requests(in), std::nullopt) << "at the default token prices machines never pay by tokens alone";
  in.api_miss_per_million = 4;
  in.api_hit_per_million = 1;
  in.api_output_per_million = 16;
  in.server_requests_per_hour = 60000;
  const auto load = break_even_requests(in);
  ASSERT_TRUE(load.has_value());
  in.requests_per_month = *load * 0.999;
  EXPECT_GT(local_minus_api(in), 0);
  in.requests_per_month = *load + 1;
  EXPECT_LE(local_minus_api(in), 0);
  in.api_miss_per_million = in.api_hit_per_million = in.api_output_per_million = 0;
  EXPECT_EQ(break_even_requests(in), std::nullopt) << "a free API is never beaten";
}

TEST(Tco, SensitivityFindsTheInputThatDecidesAndWhereItTurns) {
  TcoInputs in;
  const std::vector<Sensitivity> all = sensitivities(in);
  ASSERT_EQ(all.size(), tco_fields().size());
  const bool local_cheaper = local_minus_api(in) <= 0;
  int flips = 0;
  for (const Sensitivity& s : all) {
    if (!s.flips_at) continue;
    ++flips;
    TcoInputs turned = in;
    turned.*(s.field->member) = *s.flips_at;
    EXPECT_NE(local_minus_api(turned) <= 0, local_cheaper) << s.field->name;
  }
  EXPECT_GT(flips, 3);
  for (std::size_t i = 1; i < all.size(); ++i)
    EXPECT_GE(std::max(std::fabs(all[i - 1].change_low), std::fabs(all[i - 1].change_high)),
              std::max(std::fabs(all[i].change_low), std::fabs(all[i].change_high)));
}

TEST(Tco, PriceListTypoIsNamedWithTheNearestField) {
  TcoInputs in;
  const auto list = parse_toml("server_prise = 900000\n", "prices.toml");
  ASSERT_TRUE(list.has_value());
  EXPECT_EQ(set_inputs(tco_fields(), in, *list, "prices.toml").error().message,
            "prices.toml: unknown field 'server_prise'; did you mean 'server_price'?");
  const auto negative = parse_toml("requests_per_month = -5\n", "prices.toml");
  EXPECT_EQ(set_inputs(tco_fields(), in, *negative, "prices.toml").error().message,
            "prices.toml: requests_per_month: expected a number from 0 to 1000000000000 requests, found -5; the "
            "nearest that works is 0");
  const auto text = parse_toml("pue = 'high'\n", "prices.toml");
  EXPECT_EQ(set_inputs(tco_fields(), in, *text, "prices.toml").error().message,
            "prices.toml: pue: expected a number, found string");
}

TEST(Tco, EveryAnswerFormIsComplete) {
  const Answer answer = answer_tco({}, {.code = "USD", .per_cny = 0.14}, Language::en);
  EXPECT_TRUE(JsonValue::parse(answer.json).has_value());
  const std::string html = render(answer, Format::html, Language::en);
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_EQ(html.find("http"), std::string::npos) << "nothing is fetched";
  EXPECT_NE(render(answer, Format::csv, Language::en).find("api_output_per_million,3.000,"), std::string::npos);
}

TEST(Document, TextAlignsWideCharactersAndCsvQuotes) {
  const Document document{
      .title = "成本", .sections = {{.tables = {{.columns = {"项", "a"}, .rows = {{"电费", "1,000"}, {"x", "2"}}}}}}};
  EXPECT_EQ(render_text(document), "成本\n====\n\n  项        a\n  ------------\n  电费  1,000\n  x         2\n");
  EXPECT_EQ(render_csv(document), "\"\"\r\n项,a\r\n电费,\"1,000\"\r\nx,2\r\n");
  EXPECT_EQ(grouped(-1234567.25, 1), "-1,234,567.2");
  EXPECT_EQ(grouped(-0.01, 1), "0.0");
  EXPECT_EQ(significant(0.01234), "0.0123");
}

}  // namespace
}  // namespace hp::planner
