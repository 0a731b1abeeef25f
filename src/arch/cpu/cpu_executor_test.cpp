// Tiny random models through the CPU executor: the same bits alone, in a batch, in chunks, prefilled or decoded, with
// any number of threads, on every ISA of this machine.
#include "arch/cpu/cpu_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>

#include "arch/cpu/test_steps.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

std::unique_ptr<Executor> open(const TinyModel& tiny, kernels::Isa isa, int threads = 2) {
  const auto path = tiny.write("cpu_executor_test_" + tiny.architecture);
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint) << (checkpoint ? "" : checkpoint.error().message);
  if (!checkpoint) return nullptr;
  auto executor = make_cpu_executor(
      *checkpoint,
      {.isa = isa, .threads = threads, .blocks = 256, .max_step_tokens = 1024, .max_logit_rows = 64, .context = 1024});
  std::filesystem::remove(path);
  EXPECT_TRUE(executor) << (executor ? "" : executor.error().message);
  return executor ? std::move(*executor) : nullptr;
}

class EveryIsa : public testing::TestWithParam<kernels::Isa> {};

TEST_P(EveryIsa, ChunksOfAnySizeGiveTheSameBits) {
  const auto executor = open({}, GetParam());
  ASSERT_NE(executor, nullptr);
  const auto prompt = tokens(600, 3);  // over the edge of a KV split
  const Logits whole = run_chunked(*executor, prompt, 600, 0);
  ASSERT_TRUE(std::ranges::all_of(whole, [](float v) { return std::isfinite(v); }));
  for (const std::size_t chunk : {16U, 64U, 512U, 7U, 1U}) {
    EXPECT_TRUE(same_bits(whole, run_chunked(*executor, prompt, chunk, 70))) << "chunks of " << chunk;
  }
  auto other = prompt;
  other[2] = (other[2] + 1) % 128;
  EXPECT_FALSE(same_bits(whole, run_chunked(*executor, other, 600, 0))) << "an early token must matter";
}

TEST_P(EveryIsa, ABatchOf32GivesTheSameBitsAsAlone) {
  const auto executor = open({.architecture = "qwen2", .bias = true, .tied = true}, GetParam());
  ASSERT_NE(executor, nullptr);
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<BlockId>> tables;
  std::vector<Logits> alone;
  for (int i = 0; i < 32; ++i) {
    prompts.push_back(tokens(1 + i * 2 % 41, i));
    tables.push_back(blocks(4, i * 4));
    alone.push_back(run_chunked(*executor, prompts.back(), 1024, 130));
  }
  std::vector<SequenceStep> batch;
  for (std::size_t i = 0; i < 32; ++i) batch.push_back({prompts[i], 0, tables[i], 1});
  const auto logits = executor->step(batch);
  ASSERT_TRUE(logits);
  ASSERT_EQ(logits->rows, 32);
  for (int i = 0; i < 32; ++i) {
    EXPECT_TRUE(same_bits(alone[static_cast<std::size_t>(i)], last_row(*logits, i))) << "sequence " << i;
  }
}

TEST_P(EveryIsa, PrefillOfPromptAndOutputGivesTheBitsOfDecoding) {
  const auto executor = open({.architecture = "qwen3", .qk_norm = true}, GetParam());
  ASSERT_NE(executor, nullptr);
  const auto table = blocks(61, 0);
  auto timeline = tokens(50, 9);
  run_chunked(*executor, timeline, 1024, 0);
  std::vector<Logits> decoded;
  for (int i = 0; i < 20; ++i) {
    const TokenId next = (i * 53 + 8) % 128;
    const SequenceStep s{.tokens = std::span(&next, 1),
                         .position = static_cast<std::int32_t>(timeline.size()),
                         .blocks = table,
                         .logit_rows = 1};
    const auto logits = executor->step(std::span(&s, 1));
    ASSERT_TRUE(logits);
    decoded.push_back(last_row(*logits, 0));
    timeline.push_back(next);
  }
  const auto fresh = blocks(61, 100);
  const SequenceStep all{.tokens = timeline, .position = 0, .blocks = fresh, .logit_rows = 20};
  const auto logits = executor->step(std::span(&all, 1));
  ASSERT_TRUE(logits);
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(same_bits(decoded[static_cast<std::size_t>(i)], last_row(*logits, i))) << "output " << i;
  }
}

TEST_P(EveryIsa, ThreadsDoNotChangeABit) {
  const auto one = open({}, GetParam(), 1);
  const auto three = open({}, GetParam(), 3);
  ASSERT_TRUE(one != nullptr && three != nullptr);
  EXPECT_TRUE(same_bits(run_chunked(*one, tokens(90, 1), 1024, 0), run_chunked(*three, tokens(90, 1), 1024, 0)));
}

TEST_P(EveryIsa, AgreesWithTheReferenceIsa) {
  const auto ref = open({}, kernels::Isa::ref);
  const auto fast = open({}, GetParam());
  ASSERT_TRUE(ref != nullptr && fast != nullptr);
  const Logits want = run_chunked(*ref, tokens(80, 5), 1024, 0), got = run_chunked(*fast, tokens(80, 5), 1024, 0);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double{want[i]} - got[i], 2);
    norm += std::pow(double{want[i]}, 2);
  }
  EXPECT_LT(std::sqrt(error / norm), 0.03);  // f16 KV and bf16 or q8 operands over two layers
}

INSTANTIATE_TEST_SUITE_P(Cpu, EveryIsa, testing::ValuesIn(kernels::available_isas()),
                         [](const auto& isa) { return std::string(kernels::to_string(isa.param)); });

TEST(CpuExecutor, OptionsThatCannotWorkAreErrors) {
  const auto path = TinyModel{}.write("cpu_executor_options_test");
  auto checkpoint = Checkpoint::open(path);
  ASSERT_TRUE(checkpoint);
  const auto code = [&](const CpuExecutorOptions& o) {
    const auto executor = make_cpu_executor(*checkpoint, o);
    return executor ? std::optional<ErrorCode>() : executor.error().code;
  };
  EXPECT_EQ(code({.threads = 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.kv_dtype = DType::q8_0}), ErrorCode::invalid_argument);
  EXPECT_EQ(code({.kv_bytes = 10}), ErrorCode::resource_exhausted);
  EXPECT_EQ(code({.block_tokens = 32}), ErrorCode::unsupported);
  std::filesystem::remove(path);
}

TEST(CpuExecutorDeathTest, ABatchThatBreaksTheContractIsABug) {
  const auto executor = open({}, kernels::Isa::ref, 1);
  ASSERT_NE(executor, nullptr);
  const auto table = blocks(2, 0);
  const TokenId bad = 128;
  const SequenceStep s{.tokens = std::span(&bad, 1), .position = 0, .blocks = table, .logit_rows = 1};
  EXPECT_DEATH((void)executor->step(std::span(&s, 1)), "token 128 of 128");
}

}  // namespace
}  // namespace hp
