// Batch invariance with every kind of weight and KV cache on every ISA: a random request's logits alone = in a batch of
// 32 = in chunks = decoded token by token, bit for bit.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "arch/cpu/cpu_executor.h"
#include "arch/cpu/test_steps.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

constexpr std::int32_t kBlocksEach = 8;  // 128 tokens
constexpr int kOutput = 4;               // last tokens of a request, compared one by one
constexpr std::size_t kBatch = 32;

struct Request {
  std::vector<TokenId> tokens;
  std::vector<Logits> alone;  ///< of the last kOutput tokens
};

class BatchInvariance : public testing::TestWithParam<std::tuple<kernels::Isa, DType, DType>> {
 protected:
  static std::unique_ptr<Executor> open(kernels::Isa isa, DType type, DType kv) {
    const bool k = traits(type).block_size == 256;
    const TinyModel tiny{.layers = k ? 1U : 2U, .hidden = k ? 256U : 64U, .ffn = k ? 256U : 96U, .matrices = type};
    const auto path = tiny.write("batch_invariance_" + std::string(kernels::to_string(isa)));
    auto checkpoint = Checkpoint::open(path);
    EXPECT_TRUE(checkpoint) << (checkpoint ? "" : checkpoint.error().message);
    if (!checkpoint) return nullptr;
    auto executor = make_cpu_executor(*checkpoint, {.isa = isa,
                                                    .threads = 2,
                                                    .kv_dtype = kv,
                                                    .blocks = kBlocksEach * static_cast<std::int32_t>(kBatch + 1),
                                                    .max_step_tokens = 4096,
                                                    .max_logit_rows = 256,
                                                    .context = kBlocksEach * 16});
    std::filesystem::remove(path);
    EXPECT_TRUE(executor) << (executor ? "" : executor.error().message);
    return executor ? std::move(*executor) : nullptr;
  }

  static std::vector<BlockId> table(std::size_t slot) {
    return blocks(kBlocksEach, static_cast<int>(slot) * kBlocksEach);
  }

  /// The request's last logits when its prompt goes in chunks and its last tokens one by one.
  static std::vector<Logits> decode(Executor& executor, const Request& r, std::size_t chunk) {
    const auto blocks = table(kBatch);
    const std::size_t prompt = r.tokens.size() - kOutput;
    std::vector<Logits> out;
    for (std::size_t at = 0; at < r.tokens.size();) {
      const std::size_t count = at < prompt ? std::min(chunk, prompt - at) : 1;
      const SequenceStep s{.tokens = std::span(r.tokens).subspan(at, count),
                           .position = static_cast<std::int32_t>(at),
                           .blocks = blocks,
                           .logit_rows = at < prompt ? 0 : 1};
      const auto logits = executor.step(std::span(&s, 1));
      EXPECT_TRUE(logits);
      if (at >= prompt) out.push_back(last_row(*logits, 0));
      at += count;
    }
    return out;
  }
};

TEST_P(BatchInvariance, FiftyRandomRequestsGiveTheirOwnBitsInAnyCompany) {
  const auto [isa, type, kv] = GetParam();
  const auto executor = open(isa, type, kv);
  ASSERT_NE(executor, nullptr);
  std::mt19937 rng(11);
  std::vector<Request> requests(50);
  for (Request& r : requests) {
    r.tokens.resize(kOutput + 1 + rng() % 120);
    for (TokenId& t : r.tokens) t = static_cast<TokenId>(rng() % 128);
    const auto blocks = table(kBatch);
    const SequenceStep s{.tokens = r.tokens, .position = 0, .blocks = blocks, .logit_rows = kOutput};
    const auto logits = executor->step(std::span(&s, 1));
    ASSERT_TRUE(logits);
    for (int i = 0; i < kOutput; ++i) r.alone.push_back(last_row(*logits, i));
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::size_t chunk = std::vector<std::size_t>{16, 64, 512, 5}[i % 4];
    const auto decoded = decode(*executor, requests[i], chunk);
    for (std::size_t o = 0; o < kOutput; ++o) {
      ASSERT_TRUE(same_bits(decoded[o], requests[i].alone[o])) << "request " << i << ", chunks of " << chunk;
    }
  }
  std::vector<std::vector<BlockId>> tables;
  for (std::size_t i = 0; i < kBatch; ++i) tables.push_back(table(i));
  for (std::size_t first = 0; first < requests.size(); first += kBatch) {
    std::vector<SequenceStep> batch;
    for (std::size_t i = first; i < std::min(first + kBatch, requests.size()); ++i) {
      batch.push_back({requests[i].tokens, 0, tables[i - first], kOutput});
    }
    const auto logits = executor->step(batch);
    ASSERT_TRUE(logits);
    for (std::size_t b = 0; b < batch.size(); ++b) {
      for (int o = 0; o < kOutput; ++o) {
        const Logits row = last_row(*logits, static_cast<std::int32_t>(b) * kOutput + o);
        ASSERT_TRUE(same_bits(row, requests[first + b].alone[static_cast<std::size_t>(o)])) << "in a batch, " << b;
      }
    }
  }
  EXPECT_FALSE(same_bits(requests[0].alone[0], requests[1].alone[0]));
}

std::string case_name(const testing::TestParamInfo<BatchInvariance::ParamType>& one) {
  const auto [isa, type, kv] = one.param;
  return fmt::format("{}_{}_kv_{}", kernels::to_string(isa), traits(type).name, traits(kv).name);
}

INSTANTIATE_TEST_SUITE_P(Cpu, BatchInvariance,
                         testing::Combine(testing::ValuesIn(kernels::available_isas()),
                                          testing::Values(DType::f32, DType::bf16, DType::q4_0, DType::q4_1,
                                                          DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,
                                                          DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k,
                                                          DType::iq4_nl, DType::iq4_xs),
                                          testing::Values(DType::f16)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(CpuKv, BatchInvariance,
                         testing::Combine(testing::ValuesIn(kernels::available_isas()), testing::Values(DType::q4_0),
                                          testing::Values(DType::f32, DType::bf16, DType::i8, DType::f8_e4m3)),
                         case_name);

}  // namespace
}  // namespace hp
