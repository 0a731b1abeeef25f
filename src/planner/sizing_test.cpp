#include "planner/sizing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "model/footprint.h"

namespace hp::planner {
namespace {

struct World {
  std::vector<Accelerator> catalog = *load_accelerators();
  std::vector<Calibration> calibrations = *calibrate_all(*load_measurements(), catalog);
};
const World& world() {
  static const World w;
  return w;
}

SizeRequest request_for(std::string model) {
  SizeRequest out{.model_name = model, .model = *catalog_model(model)};
  out.inputs.context = std::min(8192, out.model.context);
  return out;
}

TEST(Queueing, WaitOfTheFormulaAgainstASimulatedQueue) {
  std::mt19937_64 random(7);
  for (const double utilization : {0.3, 0.6, 0.85}) {
    for (const double cv : {0.3, 0.5, 1.0}) {
      const double sigma = std::sqrt(std::log1p(cv * cv));
      std::lognormal_distribution<double> service(-sigma * sigma / 2, sigma);  // mean 1
      std::exponential_distribution<double> gap(utilization);
      std::vector<double> waits;
      double wait = 0;
      for (int i = 0; i < 400000; ++i) {
        waits.push_back(wait);
        wait = std::max(0.0, wait + service(random) - gap(random));
      }
      std::nth_element(waits.begin(), waits.begin() + 396000, waits.end());
      const QueueWait formula = mg1_wait(utilization, 1, cv);
      EXPECT_NEAR(formula.p99 / waits[396000], 1, 0.2) << utilization << ' ' << cv;
    }
  }
}

TEST(Sizing, MemoryIsTheFootprintsToTheByte) {
  const Accelerator h200 = *find_accelerator(world().catalog, "h200");
  for (const std::string& id : catalog_model_ids()) {
    const ModelConfig model = *catalog_model(id);
    EXPECT_EQ(memory_plan(model, *find_format("bf16"), h200, 8, 512).kv_per_token,
              static_cast<double>(kv_bytes_per_token(model, DType::f16)))
        << id;
    EXPECT_NEAR(costs_of(model).total() / static_cast<double>(parameters(model)), 1, 1e-3) << id;
  }
  const MemoryPlan v3 = memory_plan(*catalog_model("deepseek-v3"), *find_format("fp8"), h200, 8, 512);
  EXPECT_NEAR(v3.weights / 1e9, 673, 4);
  EXPECT_GT(v3.kv_tokens, 0);
  EXPECT_EQ(memory_plan(*catalog_model("deepseek-v3"), *find_format("bf16"), h200, 8, 512).kv_tokens, 0) << "1.3 TB";
}

TEST(Sizing, PublishedConfigurationsJudged) {
  const ModelConfig model = *catalog_model("deepseek-llm-67b");
  const auto judge = [&](const char* id, double count, std::string_view format) {
    for (const Judgement& j :
         judge_hardware(model, *find_accelerator(world().catalog, id), count, world().calibrations)) {
      if (j.format == format) return j;
    }
    return Judgement{};
  };
  EXPECT_TRUE(judge("a100-80g", 2, "bf16").fits);
  EXPECT_LT(judge("a100-80g", 2, "bf16").contexts, 10) << "bf16 leaves room for a handful of users";
  EXPECT_TRUE(judge("h100-80g", 4, "bf16").fits);
  EXPECT_FALSE(judge("rtx-6000-ada", 2, "bf16").fits);
  EXPECT_TRUE(judge("rtx-6000-ada", 2, "fp8").fits);
  EXPECT_TRUE(judge("a100-80g", 2, "fp8").format.empty()) << "an A100 has no fp8 units";
}

TEST(Sizing, ConfigurationsMeetTheTargetsAndMoreLoadCostsMore) {
  SizeRequest request = request_for("deepseek-r1-distill-llama-70b");
  request.accelerators = {"h200", "h20", "a100-80g", "rtx-pro-6000"};
  double last = 0;
  for (const double rps : {0.5, 5.0, 50.0}) {
    request.inputs.requests_per_second = rps;
    const SizeResult result = size_for(request, world().catalog, world().calibrations);
    ASSERT_FALSE(result.basic.empty());
    for (const Configuration& c : result.basic) {
      EXPECT_LE(c.latency.first_token_p99 * 1000, request.inputs.ttft_p99_ms) << c.device.id;
      EXPECT_LE(c.latency.inter_token_p99 * 1000, request.inputs.itl_p99_ms) << c.device.id;
      EXPECT_GE(c.capacity_rps, rps * 0.999) << c.device.id;
      EXPECT_GE(c.memory.kv_tokens, request.inputs.context);
      EXPECT_GE(c.servers, 2) << "N+1";
    }
    EXPECT_GT(result.basic.front().total_cost, last);
    last = result.basic.front().total_cost;
    ASSERT_FALSE(result.performance.empty());
    EXPECT_GE(result.performance.front().total_cost, last);
  }
}

TEST(Sizing, BadInputIsASentenceWithTheFieldAndTheNearest) {
  SizeRequest request = request_for("deepseek-llm-67b");
  request.inputs.context = 8192;
  EXPECT_EQ(validate(request, world().catalog).error().message,
            "context: deepseek-llm-67b goes up to 4096 tokens, found 8192; the nearest that works is 4096");
  request.inputs.context = 4096;
  request.inputs.requests_per_second = -3;
  EXPECT_EQ(validate(request, world().catalog).error().where, "requests_per_second");
  request.inputs.requests_per_second = 1;
  request.accelerators = {"h20o"};
  EXPECT_NE(validate(request, world().catalog).error().message.find("did you mean"), std::string::npos);
  request.accelerators.clear();
  request.formats = {"int3"};
  EXPECT_NE(validate(request, world().catalog).error().message.find("format: expected one of bf16"), std::string::npos);
}

TEST(Sizing, AModelThatFitsNowhereSaysWhatWould) {
  SizeRequest request = request_for("deepseek-v3");
  request.accelerators = {"rtx-4090", "l4"};
  const SizeResult result = size_for(request, world().catalog, world().calibrations);
  EXPECT_TRUE(result.basic.empty());
  const Answer answer = answer_size(request, result, world().catalog, world().calibrations, Language::en);
  EXPECT_NE(answer.document.verdict.find("What comes nearest"), std::string::npos);
  ASSERT_EQ(result.rejected.size(), 2U);
  EXPECT_EQ(result.rejected[0], "l4: the model does not fit into one server");
}

TEST(Sizing, EveryAnswerCarriesItsErrors) {
  const SizeRequest request = [] {
    SizeRequest r = request_for("deepseek-llm-67b");
    r.inputs.context = 4096;
    return r;
  }();
  const SizeResult result = size_for(request, world().catalog, world().calibrations);
  for (const Language language : {Language::en, Language::zh}) {
    const Answer answer = answer_size(request, result, world().catalog, world().calibrations, language);
    const std::string text = render(answer, Format::text, language);
    EXPECT_NE(text.find(language == Language::en ? "not used to calibrate" : "未用于校准"), std::string::npos);
    EXPECT_NE(text.find("A100 80 GB"), std::string::npos);
    const auto json = JsonValue::parse(answer.json);
    ASSERT_TRUE(json.has_value());
    EXPECT_GE(json->find("prediction_errors")->as_array()->size(), 2U);
  }
}

}  // namespace
}  // namespace hp::planner
