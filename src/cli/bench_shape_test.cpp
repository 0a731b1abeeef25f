// `bench --shape`: which names are shapes, and what is said where there is no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/cuda/cuda_executor.h"
#include "arch/cuda/plugin.h"
#include "cli/bench.h"

namespace hp::cli {
namespace {

TEST(BenchShape, EveryNameOfTheTableIsAShapeThatTheGpuRuns) {
  for (const char* name : {"deepseek-67b", "67b", "r1-distill-llama-8b", "r1-distill-llama-70b", "r1-distill-qwen-1.5b",
                           "r1-distill-qwen-7b", "r1-distill-qwen-32b", "v2-lite", "deepseek-v2-lite", "v2", "v3"}) {
    const auto config = shape_config({.name = name});
    ASSERT_TRUE(config) << name << ": " << config.error().message;
    EXPECT_TRUE(cuda_supports(*config)) << name << ": " << cuda_supports(*config).error().message;
  }
}

TEST(BenchShape, IsCutToItsFirstLayers) {
  const auto stack = shape_config({.name = "v3", .layers = 8});
  ASSERT_TRUE(stack);
  EXPECT_EQ(stack->layers, 8);
  EXPECT_TRUE(stack->is_moe_layer(7) && !stack->is_moe_layer(0));
  EXPECT_THAT(shape_config({.name = "v3", .layers = 62}).error().message, testing::HasSubstr("has 61 layers"));
  EXPECT_THAT(shape_config({.name = "v3-lite"}).error().message, testing::HasSubstr("not in the catalog"));
}

TEST(BenchShape, WithoutAGpuSaysSo) {
  if (cuda::load_plugin()) GTEST_SKIP() << "there is a GPU";
  const auto executor = random_executor({.name = "v2-lite"}, "auto", "fp8", 0, 1);
  ASSERT_FALSE(executor);
  EXPECT_THAT(executor.error().message, testing::HasSubstr("makes its weights on a GPU"));
  EXPECT_THAT(random_executor({.name = "v2-lite", .weights = "fp9"}, "auto", "auto", 0, 1).error().message,
              testing::HasSubstr("found 'fp9'"));
  EXPECT_THAT(random_executor({.name = "v2-lite"}, "auto", "int8", 0, 1).error().message,
              testing::HasSubstr("bf16 or fp8, not in int8"));
}

}  // namespace
}  // namespace hp::cli
