// The memory that is predicted from shapes and types is what the executor allocates, to the byte.
#include "arch/cpu/engine_memory.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "model/test_tiny_deepseek.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

void expect_exact(const std::filesystem::path& path, const CpuExecutorOptions& options) {
  auto checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const auto predicted = cpu_engine_memory(types_of(*checkpoint), options);
  ASSERT_TRUE(predicted) << predicted.error().message;
  const auto executor = make_cpu_executor(*checkpoint, options);
  ASSERT_TRUE(executor) << executor.error().message;
  const EngineMemory& held = (*executor)->info().memory;
  EXPECT_EQ(predicted->weights, held.weights);
  EXPECT_EQ(predicted->tables, held.tables);
  EXPECT_EQ(predicted->step, held.step);
  EXPECT_EQ(predicted->kv, held.kv);
  EXPECT_GT(held.weights, 0U);
}

TEST(EngineMemory, GroupedQueryModelsOfEveryTypeAndIsa) {
  for (const DType type : {DType::f32, DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0, DType::q8_0}) {
    const TinyModel tiny{.architecture = "qwen2", .bias = true, .tied = type == DType::q4_0, .matrices = type};
    const auto path = tiny.write("engine_memory_test");
    for (const kernels::Isa isa : kernels::available_isas()) {
      expect_exact(path, {.isa = isa, .threads = 3, .kv_bytes = 1'000'000, .max_step_tokens = 100, .context = 512});
    }
    std::filesystem::remove(path);
  }
  const auto path = TinyModel{.architecture = "qwen3", .qk_norm = true}.write("engine_memory_test");
  expect_exact(path, {.threads = 1, .kv_dtype = DType::bf16, .blocks = 7, .max_logit_rows = 300});
  expect_exact(path, {.threads = 1, .kv_dtype = DType::i8, .blocks = 7});
  expect_exact(path, {.threads = 1, .kv_dtype = DType::f8_e4m3, .blocks = 7});
  std::filesystem::remove(path);
}

TEST(EngineMemory, LatentAttentionAndExperts) {
  for (const bool v3 : {false, true}) {
    const auto path = TinyDeepseek{.v3 = v3, .split_kv_b = v3, .mtp = v3}.write("engine_memory_test_deepseek");
    for (const bool predict : {false, true})
      expect_exact(path, {.threads = 2, .blocks = 9, .max_step_tokens = 33, .predict = predict});
    std::filesystem::remove(path);
  }
}

}  // namespace
}  // namespace hp
