// Every element of every tensor lies on exactly the ranks that the table in shard.h says, and impossible cuts are
// refused with what and why.
#include "model/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace hp {
namespace {

using ::testing::HasSubstr;

DType all_bf16(std::string_view) {
  return DType::bf16;
}

ModelConfig dense(std::int32_t heads, std::int32_t kv_heads) {
  ModelConfig c;
  c.name = "dense";
  c.layers = 1, c.hidden = 256, c.ffn = 688, c.vocab = 1001;
  c.heads = heads, c.kv_heads = kv_heads, c.head_dim = c.v_head_dim = 64;
  c.qkv_bias = c.qk_norm = true;
  return c;
}

ModelConfig latent() {
  ModelConfig c = dense(8, 8);
  c.name = "latent";
  c.layers = 2;
  c.qkv_bias = c.qk_norm = false;
  c.mla = MlaConfig{.q_lora_rank = 96, .kv_lora_rank = 64, .qk_nope_dim = 32, .qk_rope_dim = 16, .v_dim = 32};
  c.moe = MoeConfig{.experts = 4, .experts_per_token = 2, .shared_experts = 2, .expert_ffn = 352};
  c.moe->first_dense_layers = 1;
  c.moe->has_score_bias = true;
  c.mtp_layers = 1;
  return c;
}

/// How often each element of a matrix of the tensor is held, over all ranks: [rows of a part's stack, columns].
std::vector<int> holders(const ModelConfig& c, TensorForms forms, const TensorSpec& t, std::int32_t world) {
  std::vector<int> held;
  for (std::int32_t r = 0; r < world; ++r) {
    const auto plan = ShardPlan::make(c, forms, all_bf16, {r, world});
    EXPECT_TRUE(plan) << plan.error().message;
    const TensorPart p = plan->part(t.name, t.shape);
    held.resize(static_cast<std::size_t>(p.all_rows * p.all_columns));
    for (std::int64_t i = 0; i < p.rows; ++i)
      for (std::int64_t k = 0; k < p.columns; ++k)
        ++held[static_cast<std::size_t>((p.first_row + i) * p.all_columns + p.first_column + k)];
  }
  return held;
}

struct Case {
  ModelConfig config;
  TensorForms forms;
  std::int32_t world;
};

TEST(Shard, NothingIsLostAndOnlyWhatTheTableSaysIsHeldTwice) {
  const Case cases[] = {{dense(8, 4), {}, 2},
                        {dense(8, 4), {}, 4},
                        {dense(8, 2), {}, 8},
                        {latent(), {}, 2},
                        {latent(), {.split_kv_b = true, .merged_experts = true}, 8}};
  for (const Case& c : cases) {
    for (const TensorSpec& t : tensor_table(c.config, c.forms)) {
      const std::vector<int> held = holders(c.config, c.forms, t, c.world);
      const std::string_view name = t.name;
      const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
      int times = c.world;  // norms, router, latent projections, what the prediction layer adds
      if (has("token_embd") || name == "output.weight" || has("attn_q.") || has("attn_q_b") || has("attn_output") ||
          has("kv_b.") || has("attn_k_b") || has("attn_v_b") ||
          (has("ffn_") && t.shape.rank() > 1 && !has("ffn_gate_inp")))
        times = 1;
      if (has("attn_k.") || has("attn_v.")) times = std::max(1, c.world / c.config.kv_heads);
      EXPECT_THAT(held, testing::Each(times)) << name << " on " << c.world << " ranks";
    }
  }
}

TEST(Shard, ARankComputesItsHeadsAndItsShareOfTheFeedForward) {
  const auto plan = ShardPlan::make(dense(8, 2), {}, all_bf16, {3, 4});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->config().heads, 2);
  EXPECT_EQ(plan->config().kv_heads, 1);
  EXPECT_EQ(plan->part("blk.0.attn_k.weight", {128, 256}).first_row, 64);  // ranks 2 and 3 share the second key head
  EXPECT_EQ(plan->config().ffn, 172);
  EXPECT_EQ(plan->config().vocab, 1001);
  EXPECT_EQ(plan->first_id(), 753);
  EXPECT_EQ(plan->ids(), 248);  // the others have 251
}

/// 352 in blocks of 32 is eleven blocks: shares are whole blocks, as equal as they can be, of shared experts as well.
TEST(Shard, SharesAreWholeBlocks) {
  const auto q4 = [](std::string_view name) {
    return name.find("_exps") != std::string_view::npos ? DType::q4_0 : DType::bf16;
  };
  std::int64_t next = 0;
  for (std::int32_t r = 0; r < 4; ++r) {
    const auto plan = ShardPlan::make(latent(), {}, q4, {r, 4});
    ASSERT_TRUE(plan) << plan.error().message;
    const TensorPart down = plan->part("blk.1.ffn_down_exps.3.weight", {256, 352});
    EXPECT_EQ(down.first_column, next);
    EXPECT_EQ(down.columns % 32, 0);
    EXPECT_GE(down.columns, 64);
    EXPECT_LE(down.columns, 96);
    const TensorPart shared = plan->part("blk.1.ffn_up_shexp.weight", {704, 256});
    EXPECT_EQ(shared.rows, 2 * down.columns);
    EXPECT_EQ(plan->config().moe->expert_ffn, down.columns);
    next += down.columns;
  }
  EXPECT_EQ(next, 352);
}

std::string refusal(const ModelConfig& c, const TypeOf& types, std::int32_t world) {
  for (std::int32_t r = 0; r < world; ++r)
    if (const auto plan = ShardPlan::make(c, {}, types, {r, world}); !plan) return plan.error().message;
  return "accepted";
}

TEST(Shard, WhatCannotBeCutIsRefusedWithTheReason) {
  EXPECT_THAT(refusal(dense(8, 4), all_bf16, 3), HasSubstr("8 attention heads cannot be shared among 3 ranks"));
  EXPECT_THAT(refusal(dense(24, 6), all_bf16, 4), HasSubstr("6 key heads cannot be shared among 4 ranks"));
  const auto fp8 = [](std::string_view name) { return name.starts_with("blk.") ? DType::f8_e4m3 : DType::bf16; };
  ModelConfig c = dense(8, 8);
  c.fp8_block_rows = c.fp8_block_columns = 128;
  c.ffn = 256;
  EXPECT_EQ(refusal(c, fp8, 2), "accepted");
  EXPECT_THAT(refusal(c, fp8, 4), HasSubstr("a feed-forward of 256 in blocks of 128 cannot be cut for 4 ranks"));
  c.ffn = 1024;
  EXPECT_THAT(refusal(c, fp8, 8),
              HasSubstr("'blk.0.attn_q.weight' (f8_e4m3) cannot be cut for 8 ranks: rows 0 to 64 of "
                        "rank 0 end inside a block of 128"));
  const auto k_quants = [](std::string_view name) {
    return name.find("attn_output") != std::string_view::npos ? DType::q4_k : DType::bf16;
  };
  EXPECT_EQ(refusal(c, k_quants, 2), "accepted");
  EXPECT_THAT(refusal(c, k_quants, 4), HasSubstr("columns 0 to 128 of rank 0 end inside a block of 256"));
  EXPECT_THAT(refusal(dense(1024, 1024), all_bf16, 512), HasSubstr("a vocabulary of 1001"));
}

}  // namespace
}  // namespace hp
