#include "planner/report.h"

#include <gtest/gtest.h>

namespace hp::planner {
namespace {

TEST(Report, OneSelfContainedPageAnswersTheThreeQuestions) {
  const std::vector<Accelerator> catalog = *load_accelerators();
  const std::vector<Calibration> calibrations = *calibrate_all(*load_measurements(), catalog);
  ReportRequest request{.size = {.model_name = "deepseek-r1-distill-llama-70b",
                                 .model = *catalog_model("deepseek-r1-distill-llama-70b"),
                                 .accelerators = {"h200", "h20"}}};
  request.size.inputs.requests_per_second = 4;
  const SizeResult result = size_for(request.size, catalog, calibrations);
  ASSERT_FALSE(result.basic.empty());
  for (const auto& [language, words] :
       {std::pair{Language::en,
                  std::vector{"Should we?", "With what?", "For how much?", "not used to calibrate", "<svg"}},
        std::pair{Language::zh, std::vector{"是否值得？", "用什么？", "多少钱？", "未用于校准", "<svg"}}}) {
    const Answer answer = answer_report(request, result, catalog, calibrations, language);
    const std::string html = render(answer, Format::html, language);
    for (const char* const text : words) EXPECT_NE(html.find(text), std::string::npos) << text;
    for (const char* const outside : {"src=", "href=", "@import", "<script", "url("})
      EXPECT_EQ(html.find(outside), std::string::npos) << outside;
    const auto json = JsonValue::parse(answer.json);
    ASSERT_TRUE(json.has_value());
    EXPECT_NE(json->find("sizing"), nullptr);
    EXPECT_NE(json->find("tco")->find("break_even_requests_per_month"), nullptr);
  }
}

TEST(Report, CostsFollowFromTheSizing) {
  Configuration c{.servers = 3, .devices = 24, .capacity_rps = 8, .purchase = 6e6};
  c.device.power = 700;
  SizeInputs load;
  load.requests_per_second = 6;
  TcoInputs prices;
  prices.peak_to_mean = 3;
  const TcoInputs in = tco_of_sizing(prices, load, c);
  EXPECT_DOUBLE_EQ(in.server_price, 2e6);
  EXPECT_DOUBLE_EQ(in.server_requests_per_hour, 4 * 3600);
  EXPECT_NEAR(in.requests_per_month, 2 * 365.0 / 12 * 86400, 1);
  EXPECT_EQ(total_cost(in).servers, 3) << "two for the peak, one spare";
}

TEST(Document, HtmlEscapesWhatUsersName) {
  const Document document{.title = "<script>alert(1)</script>",
                          .sections = {{.tables = {{.columns = {"\"a\""}, .rows = {{"<b>"}}}}}}};
  const std::string html = render_html(document, Language::en);
  EXPECT_EQ(html.find("<script>"), std::string::npos);
  EXPECT_EQ(html.find("<b>"), std::string::npos);
}

}  // namespace
}  // namespace hp::planner
