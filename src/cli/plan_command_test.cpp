// The plan commands as a manager types them: answers, exit codes, sentences.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "cli/program.h"

namespace hp::cli {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

struct Outcome {
  int code = 0;
  std::string out, err;
};

Outcome plan(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "plan");
  const char* const environment[] = {nullptr};
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = run_program(arguments, environment);
  return {code, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

std::string file(const std::string& name, const std::string& text) {
  const fs::path path = fs::temp_directory_path() / ("homeport_plan_test_" + name);
  std::ofstream(path) << text;
  return path.string();
}

TEST(PlanCommand, WithoutFlagsTcoIsThePublishedTable) {
  const auto json = JsonValue::parse(plan({"tco", "--json"}).out);
  ASSERT_TRUE(json.has_value());
  EXPECT_EQ(json->find("cloud")->find("total")->as_int(), 432);
  EXPECT_EQ(json->find("local")->find("total")->as_int(), 378);
  EXPECT_EQ(*json->find("unit")->as_string(), "10,000 CNY");
  const auto own = JsonValue::parse(plan({"tco", "--requests-per-month", "1e6", "--json"}).out);
  EXPECT_EQ(*own->find("scenario")->as_string(), "offered-load");
}

TEST(PlanCommand, FeasibilityInThePublishedUnits) {
  const auto json =
      JsonValue::parse(plan({"feasibility", "--workload", "25", "--sensitivity", "3", "--cost", "0.5", "--json"}).out);
  ASSERT_TRUE(json.has_value());
  EXPECT_NEAR(*json->find("published")->find("index")->as_double(), 0.23, 1e-12);
  EXPECT_THAT(plan({"feasibility", "--workload", "25", "--lang", "zh"}).out, HasSubstr("什么会改变结论"));
}

TEST(PlanCommand, BadInputIsASentenceAndExitCodeTwo) {
  struct Case {
    std::vector<std::string> line;
    std::string said;
  };
  const std::string typo = file("typo.toml", "[tco]\nserver_prise = 1\n"),
                    table = file("table.toml", "[accelerator]\nh200 = 1\n"),
                    price = file("price.toml", "[accelerators]\nh20o = 1\n");
  const Case cases[] = {
      {{"feasibility", "--workload", "-1"}, "workload: expected a number from 0"},
      {{"size", "--requests-per-second", "-4"}, "the nearest that works is 1e-06"},
      {{"size", "--model", "deepseek-llm-67b", "--context", "8192"},
       "deepseek-llm-67b goes up to 4096 tokens, found 8192; the nearest that works is 4096"},
      {{"tco", "--prices", typo}, "unknown field 'server_prise'; did you mean 'server_price'?"},
      {{"tco", "--prices", table}, "did you mean [accelerators]?"},
      {{"size", "--prices", price}, "'h20o' is not in the catalog of accelerators; did you mean 'h200'?"},
      {{"size", "--accelerator", "h20o"}, "did you mean 'h200'?"},
      {{"size", "--lang", "de"}, "--lang: expected en or zh"},
      {{"deploy", "--target", "swarm"}, "expected kubernetes, systemd or compose, found 'swarm'"},
      {{"siez"}, "did you mean 'size'?"},
  };
  for (const Case& c : cases) {
    const Outcome outcome = plan(c.line);
    EXPECT_EQ(outcome.code, kExitUsage) << c.line[0];
    EXPECT_THAT(outcome.err, HasSubstr(c.said));
    EXPECT_EQ(outcome.out, "") << c.line[0];
  }
}

TEST(PlanCommand, AModelThatFitsNowhereNamesWhatWould) {
  const Outcome outcome = plan({"size", "--model", "deepseek-v3", "--accelerator", "l4"});
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_THAT(outcome.out, HasSubstr("a smaller format (--format int4)"));
}

TEST(PlanCommand, DeployWritesItsFiles) {
  const fs::path folder = fs::temp_directory_path() / "homeport_plan_test_deploy";
  fs::remove_all(folder);
  const Outcome outcome =
      plan({"deploy", "--target", "kubernetes", "--accelerator", "h200", "--output", folder.string()});
  ASSERT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_TRUE(fs::exists(folder / "kustomization.yaml"));
  EXPECT_TRUE(fs::exists(folder / "node.yaml"));
}

TEST(PlanCommand, ReportWritesOnePage) {
  const fs::path page = fs::temp_directory_path() / "homeport_plan_test.html";
  fs::remove(page);
  EXPECT_EQ(plan({"report", "--accelerator", "h200,h20", "--html", page.string()}).code, kExitOk);
  EXPECT_GT(fs::file_size(page), 10000U);
  EXPECT_EQ(plan({"report", "--html", "/nowhere/x.html"}).code, kExitFailure);
}

}  // namespace
}  // namespace hp::cli
