#include "planner/calibration.h"

#include <gtest/gtest.h>

#include <cmath>

#include "planner/weight_types.h"

namespace hp::planner {
namespace {

TEST(Models, ParametersFollowFromTheShapes) {
  struct Row {
    const char* id;
    double total, active;
  };
  for (const Row& row : {Row{"deepseek-llm-67b", 67.4e9, 66.6e9}, Row{"deepseek-v3", 671.0e9, 36.6e9},
                         Row{"deepseek-v2", 235.7e9, 21e9}, Row{"deepseek-v2-lite", 15.7e9, 2.45e9},
                         Row{"llama-8b", 8.03e9, 7.5e9}, Row{"smollm2-135m", 134.5e6, 134.5e6}}) {
    const auto config = catalog_model(row.id);
    ASSERT_TRUE(config.has_value());
    const ModelCosts costs = costs_of(*config);
    EXPECT_NEAR(costs.total() / row.total, 1, 0.005) << row.id;
    EXPECT_NEAR(costs.active() / row.active, 1, 0.03) << row.id;
  }
}

TEST(Models, WeightBytesAgainstPublishedFiles) {
  const auto bytes = [](const char* id, const char* format) {
    return static_cast<double>(file_bytes(*catalog_model(id), *find_format(format))) / 1e9;
  };
  EXPECT_NEAR(bytes("llama-8b", "q8_0"), 8.53, 0.05);
  EXPECT_NEAR(bytes("deepseek-llm-67b", "q8_0"), 71.6, 0.3);
  EXPECT_NEAR(bytes("deepseek-v2-lite", "q8_0"), 16.7, 0.1);
  EXPECT_NEAR(bytes("llama-8b", "bf16"), 16.06, 0.05);
}

TEST(Models, UnknownNameGivesTheNearest) {
  EXPECT_NE(catalog_model("deepseek-lm-67b").error().message.find("did you mean 'deepseek-llm-67b'"),
            std::string::npos);
}

TEST(Accelerators, CatalogIsLargeAndEveryEntryHasASource) {
  const auto catalog = load_accelerators();
  ASSERT_TRUE(catalog.has_value()) << catalog.error().message;
  EXPECT_GE(catalog->size(), 25U);
  for (const char* id : {"a100-80g", "h100-80g", "h200", "h20", "h800-80g", "b200", "l40s", "rtx-6000-ada", "rtx-4090",
                         "rtx-5090", "mi300x", "ascend-910b", "ascend-910c", "cpu-2x-epyc-9654"})
    EXPECT_TRUE(find_accelerator(*catalog, id).has_value()) << id;
  for (const Accelerator& a : *catalog) EXPECT_GT(a.source.size(), 10U) << a.id;
}

TEST(Accelerators, OverridesAndTypos) {
  auto catalog = load_accelerators(
      "[[accelerator]]\nid='h200'\nname='x'\nkind='gpu'\nmemory=141\nbandwidth=1\nbf16=1\npower=1\nprice=5\nper_server="
      "8\nsource='mine'\n");
  ASSERT_TRUE(catalog.has_value()) << catalog.error().message;
  EXPECT_EQ(find_accelerator(*catalog, "h200")->price, 5);
  EXPECT_EQ(apply_prices(*catalog, *JsonValue::parse(R"({"h20o": 7})"), "prices.toml").error().message,
            "prices.toml: 'h20o' is not in the catalog of accelerators; did you mean 'h200'?");
  EXPECT_FALSE(apply_prices(*catalog, *JsonValue::parse(R"({"h200": -7})"), "p").has_value());
  EXPECT_NE(load_accelerators("[[accelerator]]\nid='x'\nname='x'\nkind='gpu'\nmemery=1\nsource='s'\n", "mine.toml")
                .error()
                .message.find("did you mean 'memory'"),
            std::string::npos);
}

TEST(Roofline, MonotoneAndBoundedByTheMachine) {
  const auto catalog = load_accelerators();
  const ModelCosts model = costs_of(*catalog_model("deepseek-llm-67b"));
  Placement placement{.model = &model,
                      .format = find_format("fp8"),
                      .kv_bytes_per_token = 389120,
                      .machine = {.device = *find_accelerator(*catalog, "h200")}};
  const double one = decode_step_seconds(placement, 1, 500);
  EXPECT_GT(one, 66.6e9 / 4.8e12) << "no faster than reading the weights";
  EXPECT_GT(decode_step_seconds(placement, 64, 500), one);
  EXPECT_LT(decode_step_seconds(placement, 64, 500), 64 * one);
  EXPECT_GT(prefill_seconds(placement, 2048), prefill_seconds(placement, 2048, 1024));
  placement.machine.count = 4;
  EXPECT_LT(decode_step_seconds(placement, 1, 500), one);
}

TEST(Calibration, RecoversKnownEfficiencies) {
  const auto catalog = load_accelerators();
  const Accelerator device = *find_accelerator(*catalog, "h100-80g");
  const ModelCosts model = costs_of(*catalog_model("llama-8b"));
  Efficiency truth;
  truth.gemv_bandwidth = 0.8;
  truth.compute = 0.5;
  const Placement placement{.model = &model,
                            .format = find_format("bf16"),
                            .kv_bytes_per_token = 131072,
                            .machine = {.device = device},
                            .efficiency = truth};
  std::vector<Measurement> points;
  const auto add = [&](bool prefill, double size, double seconds) {
    points.push_back({.engine = "e",
                      .device = device.id,
                      .model = "llama-8b",
                      .format = "bf16",
                      .prefill = prefill,
                      .size = size,
                      .context = 300,
                      .tokens_per_second = size / seconds});
  };
  for (const double n : {256.0, 1024.0, 2048.0, 8192.0}) add(true, n, prefill_seconds(placement, n));
  for (const double n : {1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0}) add(false, n, decode_step_seconds(placement, n, 300));
  const Calibration fit = calibrate(points, device);
  EXPECT_EQ(fit.errors.points, 11);
  EXPECT_LT(fit.errors.first_token, 0.05);
  EXPECT_LT(fit.errors.inter_token, 0.05);
  EXPECT_NEAR(fit.of(*placement.format).gemv_bandwidth, 0.8, 0.05);
  EXPECT_EQ(fit.other_model_errors.points, 0) << "one model only";
  // Held back is held back: a point that is wrong by a factor of three does not get near itself.
  points[2].tokens_per_second /= 3;
  const Calibration odd = calibrate(points, device);
  for (const CheckedPoint& c : odd.checked) {
    if (c.measured.prefill && c.measured.size == 2048) {
      EXPECT_LT(c.error(), -0.5);
    }
  }
}

TEST(Calibration, HeldBackPointsOfTheMachinesMeasured) {
  const auto catalog = load_accelerators();
  const auto points = load_measurements();
  ASSERT_TRUE(points.has_value()) << points.error().message;
  const auto all = calibrate_all(*points, *catalog);
  ASSERT_TRUE(all.has_value()) << all.error().message;
  std::size_t checked = 0;
  for (const Calibration& c : *all) {
    checked += c.checked.size();
    EXPECT_GE(c.errors.points, 12) << c.engine << " on " << c.device;
    EXPECT_LT(c.errors.end_to_end, 0.12) << c.engine << " on " << c.device;
    EXPECT_LT(c.errors.first_token, 0.20) << c.engine << " on " << c.device;
    EXPECT_LT(c.errors.inter_token, 0.15) << c.engine << " on " << c.device;
    EXPECT_GT(c.other_model_errors.points, 0) << c.engine << " on " << c.device;
  }
  EXPECT_EQ(checked, points->size()) << "every point is checked by a fit that has not seen it";
}

}  // namespace
}  // namespace hp::planner
