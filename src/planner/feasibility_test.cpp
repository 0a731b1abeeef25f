#include "planner/feasibility.h"

#include <gtest/gtest.h>

namespace hp::planner {
namespace {

TEST(Feasibility, PublishedIndexToTheLastDigit) {
  struct Row {
    double w, s, c, index;
  };
  for (const Row& row : {Row{0, 5, 0, 0.7}, Row{50, 5, 0, 0.3}, Row{25, 3, 0.5, 0.23}, Row{10, 4, 0.2, 0.5},
                         Row{100, 1, 1, 0}, Row{1, 5, 0, 0.692}, Row{0, 1, 0, 0.46}, Row{0, 1, 1, 0.16}}) {
    EXPECT_NEAR(published_index({row.w, row.s, row.c}), row.index, 1e-15) << row.w << ' ' << row.s << ' ' << row.c;
  }
  EXPECT_EQ(published_index({0, 5, 0}), kPublishedThreshold);
}

TEST(Feasibility, PublishedRuleNeverSaysYesAndShrinksWithLoad) {
  int at_maximum = 0;
  for (int w10 = 0; w10 <= 1000; w10 += 2) {
    for (int s10 = 10; s10 <= 50; ++s10) {
      for (int c100 = 0; c100 <= 100; c100 += 2) {
        const FeasibilityInputs in{w10 / 10.0, s10 / 10.0, c100 / 100.0};
        const double index = published_index(in);
        ASSERT_FALSE(published_says_local(index)) << in.workload << ' ' << in.sensitivity << ' ' << in.cost;
        at_maximum += index == kPublishedThreshold ? 1 : 0;
        FeasibilityInputs more = in;
        more.workload += 1;
        ASSERT_LE(published_index(more), index);
      }
    }
  }
  EXPECT_EQ(at_maximum, 1) << "only w = 0, s = 5, c = 0";
}

TEST(Feasibility, OurVerdictGrowsWithLoadAndSensitivity) {
  TcoInputs costs;
  costs.outage_hours_cloud = costs.outage_hours_local;  // tokens alone
  costs.api_output_per_million = 16;
  costs.server_requests_per_hour = 60000;
  EXPECT_EQ(judge({0.01, 1, 1}, costs).choice, Choice::api);
  EXPECT_EQ(judge({0.01, 5, 1}, costs).choice, Choice::local) << "the data must not leave";
  const Verdict small = judge({1, 2, 0.5}, costs);
  ASSERT_TRUE(small.from_workload.has_value());
  EXPECT_EQ(small.choice, Choice::api);
  EXPECT_EQ(judge({*small.from_workload * 1.001, 2, 0.5}, costs).choice, Choice::local);
  EXPECT_NE(judge({*small.from_workload * 0.98, 2, 0.5}, costs).choice, Choice::local);
}

TEST(Feasibility, AvailabilityThatOutsideOffersMissDecides) {
  TcoInputs costs;
  costs.outage_loss_per_hour = 0;
  const FeasibilityInputs patient{0.01, 1, 1};
  ASSERT_EQ(judge(patient, costs).choice, Choice::api);
  EXPECT_EQ(judge({0.01, 1, 1, 98}, costs).choice, Choice::api) << "120 hours of 175";
  EXPECT_EQ(judge({0.01, 1, 1, 99.5}, costs).choice, Choice::local) << "120 hours of 44; own machines 15";
  const Answer answer = answer_feasibility({0.01, 1, 1, 99.5}, costs, Language::en);
  EXPECT_NE(answer.json.find("99.5 % of the time allows 43.8 hours"), std::string::npos);
  EXPECT_NE(answer.json.find("without this need an outside offer would be right"), std::string::npos);
  costs.outage_hours_local = 200;
  EXPECT_EQ(judge({0.01, 1, 1, 99.5}, costs).choice, Choice::api) << "own machines would be worse still";
}

TEST(Feasibility, MoneyWeighsAgainstThePremiumForKeepingData) {
  EXPECT_EQ(accepted_ratio(5, 0.3), std::nullopt);
  EXPECT_DOUBLE_EQ(*accepted_ratio(1, 0), 1);
  EXPECT_DOUBLE_EQ(*accepted_ratio(3, 0), 4);
  EXPECT_DOUBLE_EQ(*accepted_ratio(3, 1), 1);
}

TEST(Feasibility, BadInputNamesTheFieldAndTheNearestThatWorks) {
  EXPECT_EQ(
      validate(FeasibilityInputs{-1, 3, 0.5}).error().message,
      "workload: expected a number from 0 to 10000000 x 10,000 requests a day, found -1; the nearest that works is 0");
  EXPECT_EQ(validate(FeasibilityInputs{1, 7, 0.5}).error().where, "sensitivity");
  EXPECT_EQ(validate(FeasibilityInputs{1, 3, 50}).error().message,
            "cost: expected a number from 0 to 1, found 50; the nearest that works is 1");
}

TEST(Feasibility, AnswerSpeaksBothLanguagesAndJson) {
  const FeasibilityInputs in{25, 3, 0.5};
  const Answer zh = answer_feasibility(in, {}, Language::zh), en = answer_feasibility(in, {}, Language::en);
  EXPECT_NE(render(zh, Format::text, Language::zh).find("恰为 0.70"), std::string::npos);
  EXPECT_NE(render(en, Format::text, Language::en).find("exactly 0.70"), std::string::npos);
  const auto json = JsonValue::parse(en.json);
  ASSERT_TRUE(json.has_value());
  EXPECT_NEAR(*json->find("published")->find("index")->as_double(), 0.23, 1e-15);
  EXPECT_FALSE(*json->find("published")->find("says_local")->as_bool());
  EXPECT_FALSE(json->find("verdict")->find("reasons")->as_array()->empty());
}

}  // namespace
}  // namespace hp::planner
