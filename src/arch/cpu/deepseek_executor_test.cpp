// Tiny random DeepSeek models (latent attention, experts) through the CPU executor: the same bits alone, in a batch, in
// chunks, prefilled or decoded, with any number of threads, on every ISA of this machine.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "arch/cpu/cpu_executor.h"
#include "arch/cpu/test_steps.h"
#include "model/footprint.h"
#include "model/test_tiny_deepseek.h"

namespace hp {
namespace {

std::unique_ptr<Executor> open(const TinyDeepseek& tiny, kernels::Isa isa, int threads = 2,
                               std::optional<DType> kv = {}) {
  const auto path = tiny.write("deepseek_executor_test");
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint) << (checkpoint ? "" : checkpoint.error().message);
  if (!checkpoint) return nullptr;
  auto executor = make_cpu_executor(*checkpoint, {.isa = isa,
                                                  .threads = threads,
                                                  .kv_dtype = kv,
                                                  .blocks = 256,
                                                  .max_step_tokens = 1024,
                                                  .max_logit_rows = 64,
                                                  .context = 1024});
  std::filesystem::remove(path);
  EXPECT_TRUE(executor) << (executor ? "" : executor.error().message);
  return executor ? std::move(*executor) : nullptr;
}

class DeepseekEveryIsa : public testing::TestWithParam<std::tuple<kernels::Isa, bool>> {
 protected:
  [[nodiscard]] static kernels::Isa isa() { return std::get<0>(GetParam()); }
  [[nodiscard]] static TinyDeepseek tiny() { return {.v3 = std::get<1>(GetParam())}; }
};

TEST_P(DeepseekEveryIsa, ChunksOfAnySizeGiveTheSameBits) {
  for (const DType kv : {DType::f16, DType::i8, DType::f8_e4m3}) {
    const auto executor = open(tiny(), isa(), 2, kv);
    ASSERT_NE(executor, nullptr);
    const auto prompt = tokens(530, 3);  // over the edge of a KV split
    const Logits whole = run_chunked(*executor, prompt, 530, 0);
    ASSERT_TRUE(std::ranges::all_of(whole, [](float v) { return std::isfinite(v); }));
    for (const std::size_t chunk : {16U, 512U, 7U, 1U})
      EXPECT_TRUE(same_bits(whole, run_chunked(*executor, prompt, chunk, 70))) << "chunks of " << chunk;
    auto other = prompt;
    other[2] = (other[2] + 1) % 128;
    EXPECT_FALSE(same_bits(whole, run_chunked(*executor, other, 530, 0))) << "an early token must matter";
  }
}

TEST_P(DeepseekEveryIsa, ABatchOf32GivesTheSameBitsAsAlone) {
  const auto executor = open(tiny(), isa());
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
  for (int i = 0; i < 32; ++i)
    EXPECT_TRUE(same_bits(alone[static_cast<std::size_t>(i)], last_row(*logits, i))) << "sequence " << i;
}

TEST_P(DeepseekEveryIsa, PrefillOfPromptAndOutputGivesTheBitsOfDecoding) {
  const auto executor = open(tiny(), isa());
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
  for (int i = 0; i < 20; ++i)
    EXPECT_TRUE(same_bits(decoded[static_cast<std::size_t>(i)], last_row(*logits, i))) << "output " << i;
}

TEST_P(DeepseekEveryIsa, ThreadsDoNotChangeABit) {
  const auto one = open(tiny(), isa(), 1);
  const auto five = open(tiny(), isa(), 5);
  ASSERT_TRUE(one != nullptr && five != nullptr);
  EXPECT_TRUE(same_bits(run_chunked(*one, tokens(90, 1), 1024, 0), run_chunked(*five, tokens(90, 1), 1024, 0)));
}

TEST_P(DeepseekEveryIsa, AgreesWithTheReferenceIsa) {
  const auto ref = open(tiny(), kernels::Isa::ref);
  const auto fast = open(tiny(), isa());
  ASSERT_TRUE(ref != nullptr && fast != nullptr);
  const Logits want = run_chunked(*ref, tokens(80, 5), 1024, 0), got = run_chunked(*fast, tokens(80, 5), 1024, 0);
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double{want[i]} - got[i], 2);
    norm += std::pow(double{want[i]}, 2);
  }
  EXPECT_LT(std::sqrt(error / norm), 0.03);  // f16 KV over three layers; f32 weights
}

INSTANTIATE_TEST_SUITE_P(Cpu, DeepseekEveryIsa,
                         testing::Combine(testing::ValuesIn(kernels::available_isas()), testing::Bool()),
                         [](const auto& p) {
                           return std::string(kernels::to_string(std::get<0>(p.param))) +
                                  (std::get<1>(p.param) ? "_v3" : "_v2");
                         });

TEST(DeepseekExecutor, KvBlocksHoldTheLatentAndNothingMore) {
  const TinyDeepseek tiny;
  const auto executor = open(tiny, kernels::Isa::ref, 1, DType::bf16);
  ASSERT_NE(executor, nullptr);
  const auto& info = executor->info();
  EXPECT_EQ(info.block_bytes, std::size_t{2} * (tiny.kv_lora + tiny.rope) * tiny.layers * 16);
}

}  // namespace
}  // namespace hp
