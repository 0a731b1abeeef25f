// Configurations of the DeepSeek families from both formats, what they cost in bytes, and files that lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/checkpoint.h"
#include "model/footprint.h"
#include "model/hf_config.h"
#include "model/tensor_names.h"
#include "model/test_tiny_deepseek.h"

namespace hp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The published config.json, cut to what is read.
std::string v2_lite(const std::string& more = "") {
  return R"({"architectures":["DeepseekV2ForCausalLM"],"attention_bias":false,"bos_token_id":100000,)"
         R"("eos_token_id":100001,"first_k_dense_replace":1,"hidden_act":"silu","hidden_size":2048,)"
         R"("intermediate_size":10944,"kv_lora_rank":512,"max_position_embeddings":163840,)"
         R"("moe_intermediate_size":1408,"moe_layer_freq":1,"n_group":1,"n_routed_experts":64,"n_shared_experts":2,)"
         R"("norm_topk_prob":false,"num_attention_heads":16,"num_experts_per_tok":6,"num_hidden_layers":27,)"
         R"("num_key_value_heads":16,"q_lora_rank":null,"qk_nope_head_dim":128,"qk_rope_head_dim":64,)"
         R"("rms_norm_eps":1e-06,"rope_scaling":{"beta_fast":32,"beta_slow":1,"factor":40,"mscale":0.707,)"
         R"("mscale_all_dim":0.707,"original_max_position_embeddings":4096,"type":"yarn"},"rope_theta":10000,)"
         R"("routed_scaling_factor":1.0,"scoring_func":"softmax","tie_word_embeddings":false,"topk_group":1,)"
         R"("topk_method":"greedy","v_head_dim":128,"vocab_size":102400)" +
         more + "}";
}

std::string v3(const std::string& more = "") {
  return R"({"architectures":["DeepseekV3ForCausalLM"],"attention_bias":false,"bos_token_id":0,"eos_token_id":1,)"
         R"("first_k_dense_replace":3,"hidden_act":"silu","hidden_size":7168,"intermediate_size":18432,)"
         R"("kv_lora_rank":512,"max_position_embeddings":163840,"moe_intermediate_size":2048,"moe_layer_freq":1,)"
         R"("n_group":8,"n_routed_experts":256,"n_shared_experts":1,"norm_topk_prob":true,)"
         R"("num_attention_heads":128,"num_experts_per_tok":8,"num_hidden_layers":61,"num_key_value_heads":128,)"
         R"("num_nextn_predict_layers":1,"q_lora_rank":1536,"qk_nope_head_dim":128,"qk_rope_head_dim":64,)"
         R"("quantization_config":{"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8",)"
         R"("weight_block_size":[128,128]},"rms_norm_eps":1e-06,"rope_scaling":{"beta_fast":32,"beta_slow":1,)"
         R"("factor":40,"mscale":1.0,"mscale_all_dim":1.0,"original_max_position_embeddings":4096,"type":"yarn"},)"
         R"("rope_theta":10000,"routed_scaling_factor":2.5,"scoring_func":"sigmoid","tie_word_embeddings":false,)"
         R"("topk_group":4,"topk_method":"noaux_tc","v_head_dim":128,"vocab_size":129280)" +
         more + "}";
}

std::string error_of(const std::string& text) {
  const auto c = config_from_hf(text, "config.json");
  return c ? "accepted" : c.error().message;
}

TEST(DeepseekConfig, V2LiteAndItsBytes) {
  const auto c = config_from_hf(v2_lite(), "config.json");
  ASSERT_TRUE(c.has_value()) << c.error().message;
  EXPECT_EQ(c->architecture, Architecture::deepseek_v2);
  ASSERT_TRUE(c->mla && c->moe);
  EXPECT_EQ(c->mla->q_lora_rank, 0);
  EXPECT_EQ(c->rope.dims, 64);
  EXPECT_EQ(c->rope.layout, RopeLayout::interleaved);
  EXPECT_EQ(c->moe->group_score, MoeConfig::GroupScore::none);
  EXPECT_FALSE(c->moe->normalize_weights);
  EXPECT_FALSE(c->is_moe_layer(0));
  EXPECT_TRUE(c->is_moe_layer(1));
  EXPECT_NEAR(attention_scale(*c), 0.1147213867929261, 1e-8);  // 192^-0.5 · (0.0707 · ln 40 + 1)²
  EXPECT_EQ(kv_bytes_per_token(*c, DType::bf16), 31'104U);
  EXPECT_NEAR(static_cast<double>(parameters(*c)), 15.706e9, 0.001e9);
  EXPECT_NEAR(static_cast<double>(active_parameters(*c)), 2.45e9, 0.01e9);
  EXPECT_EQ(weight_bytes(*c, {}) / 1'000'000'000U, 31U);
}

TEST(DeepseekConfig, V3AndItsBytes) {
  const auto c = config_from_hf(v3(), "config.json");
  ASSERT_TRUE(c.has_value()) << c.error().message;
  EXPECT_EQ(c->moe->group_score, MoeConfig::GroupScore::top2_sum);
  EXPECT_EQ(c->moe->scoring, MoeConfig::Scoring::sigmoid);
  EXPECT_TRUE(c->moe->has_score_bias && c->moe->normalize_weights);
  EXPECT_EQ(c->moe->weight_scale, 2.5F);
  EXPECT_EQ(c->mtp_layers, 1);
  EXPECT_EQ(c->fp8_block_rows, 128);
  EXPECT_EQ(kv_bytes_per_token(*c, DType::bf16), 70'272U);
  ModelConfig without = *c;
  without.mtp_layers = 0;
  EXPECT_NEAR(static_cast<double>(parameters(without)), 671.0e9, 0.1e9);
}

TEST(DeepseekConfig, RoutingRules) {
  const auto group_limited = config_from_hf(
      v2_lite(R"(,"topk_method":"group_limited_greedy","n_group":8,"topk_group":3,"routed_scaling_factor":16.0)"), "c");
  ASSERT_TRUE(group_limited.has_value()) << group_limited.error().message;
  EXPECT_EQ(group_limited->moe->group_score, MoeConfig::GroupScore::max);
  EXPECT_EQ(group_limited->moe->weight_scale, 16.0F);
  EXPECT_FALSE(group_limited->moe->has_score_bias);
  // V2's gate normalizes or scales, never both.
  const auto normalized = config_from_hf(v2_lite(R"(,"norm_topk_prob":true,"routed_scaling_factor":16.0)"), "c");
  ASSERT_TRUE(normalized.has_value()) << normalized.error().message;
  EXPECT_EQ(normalized->moe->weight_scale, 1.0F);
}

TEST(DeepseekConfig, RefusesLies) {
  EXPECT_THAT(error_of(v2_lite(R"(,"kv_lora_rank":0)")), HasSubstr("kv_lora_rank is 0"));
  EXPECT_THAT(error_of(v2_lite(R"(,"kv_lora_rank":null)")), HasSubstr("kv_lora_rank"));
  EXPECT_THAT(error_of(v2_lite(R"(,"num_experts_per_tok":65)")), HasSubstr("experts per token is 65"));
  EXPECT_THAT(error_of(v2_lite(R"(,"qk_rope_head_dim":63)")), HasSubstr("rope dimensions 63 are odd"));
  EXPECT_THAT(error_of(v3(R"(,"n_group":7)")), HasSubstr("no multiple of the group count 7"));
  EXPECT_THAT(error_of(v3(R"(,"n_group":64,"topk_group":1)")), HasSubstr("experts per token 8, but 1 groups of 4"));
  EXPECT_THAT(error_of(v3(R"(,"topk_method":"magic")")), HasSubstr("topk_method 'magic'"));
  EXPECT_THAT(error_of(v3(R"(,"scoring_func":"tanh")")), HasSubstr("scoring_func 'tanh'"));
  EXPECT_THAT(error_of(v3(R"(,"quantization_config":{"quant_method":"gptq"})")), HasSubstr("gptq"));
  EXPECT_THAT(error_of(v3(R"(,"quantization_config":{"quant_method":"fp8","weight_block_size":[128]})")),
              HasSubstr("weight_block_size"));
}

TEST(GenerationConfig, AddsStopsAndSampling) {
  auto c = config_from_hf(v3(), "config.json");
  ASSERT_TRUE(c.has_value());
  const Status read = read_generation_config(
      R"({"bos_token_id":0,"eos_token_id":[1,7],"do_sample":true,"temperature":0.6,"top_p":0.95})", "g.json", *c);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_THAT(c->eos, ElementsAre(1, 7));
  EXPECT_EQ(c->sampling.temperature, 0.6F);
  EXPECT_EQ(c->sampling.top_p, 0.95F);
  EXPECT_FALSE(c->sampling.top_k.has_value());
  const Status lie = read_generation_config(R"({"temperature":"hot"})", "g.json", *c);
  ASSERT_FALSE(lie.has_value());
  EXPECT_THAT(lie.error().message, HasSubstr("g.json: 'temperature'"));
}

TEST(DeepseekNames, MapToCanonicalNames) {
  EXPECT_EQ(canonical_tensor_name("model.layers.3.mlp.experts.17.up_proj.weight"), "blk.3.ffn_up_exps.17.weight");
  EXPECT_EQ(canonical_tensor_name("model.layers.3.mlp.experts.17.up_proj.weight_scale_inv"),
            "blk.3.ffn_up_exps.17.weight_scale_inv");
  EXPECT_EQ(canonical_tensor_name("model.layers.3.mlp.gate.e_score_correction_bias"), "blk.3.exp_probs_b.bias");
  EXPECT_EQ(canonical_tensor_name("model.layers.0.self_attn.kv_a_proj_with_mqa.weight"), "blk.0.attn_kv_a_mqa.weight");
  EXPECT_EQ(canonical_tensor_name("model.layers.61.shared_head.norm.weight"), "blk.61.nextn.shared_head_norm.weight");
  for (const char* unknown :
       {"model.layers.3.mlp.experts.07.up_proj.weight", "model.layers.3.mlp.experts.x.up_proj.weight",
        "model.layers.3.mlp.experts.70000.up_proj.weight", "model.layers.3.mlp.experts.1",
        "model.layers.0.self_attn.rotary_emb.weight_scale_inv"})
    EXPECT_EQ(canonical_tensor_name(unknown), std::nullopt) << unknown;
}

TEST(DeepseekGguf, OpensBothFormsOfBothGenerations) {
  for (const bool is_v3 : {false, true}) {
    for (const bool split : {false, true}) {
      const auto path = TinyDeepseek{.v3 = is_v3, .split_kv_b = split}.write("deepseek_config");
      const auto checkpoint = Checkpoint::open(path);
      std::filesystem::remove(path);
      ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
      const ModelConfig& c = checkpoint->config();
      EXPECT_EQ(c.architecture, is_v3 ? Architecture::deepseek_v3 : Architecture::deepseek_v2);
      EXPECT_EQ(c.mla->qk_nope_dim, 16);
      EXPECT_EQ(c.mla->v_dim, 16);
      EXPECT_EQ(c.mla->q_lora_rank, is_v3 ? 32 : 0);
      EXPECT_EQ(c.moe->has_score_bias, is_v3);
      EXPECT_NEAR(c.rope.mscale_all_dim, 0.707F, 1e-6F);
      EXPECT_EQ(checkpoint->forms().split_kv_b, split);
      EXPECT_TRUE(checkpoint->forms().merged_experts);
      EXPECT_EQ(kv_bytes_per_token(c, DType::f32), 3U * (32 + 8) * 4);
    }
  }
}

std::string open_error(const TinyDeepseek& tiny) {
  const auto path = tiny.write("deepseek_lie");
  const auto checkpoint = Checkpoint::open(path);
  std::filesystem::remove(path);
  return checkpoint ? "accepted" : checkpoint.error().message;
}

TEST(DeepseekGguf, LiesNameFileAndField) {
  EXPECT_THAT(open_error({.lie_experts = 12}),
              HasSubstr("homeport_deepseek_lie.gguf': tensor 'blk.1.ffn_gate_inp.weight' "
                        "is [8, 64], expected [12, 64] (n_routed_experts"));
  EXPECT_THAT(open_error({.lie_kv_lora = 48}), HasSubstr("(kv_lora_rank + qk_rope_head_dim, hidden_size"));
  EXPECT_THAT(open_error({.lie_rope = 12}), HasSubstr("qk_rope_head_dim"));
  EXPECT_THAT(open_error({.skip_tensor = "blk.2.ffn_up_exps.weight"}),
              HasSubstr("no tensor 'blk.2.ffn_up_exps.weight', expected [8, 32, 64]"));
}

TEST(DeepseekGguf, OpensSplitsAndNamesTheMissingOne) {
  std::vector<std::filesystem::path> paths;
  for (int i = 0; i < 3; ++i)
    paths.push_back(
        TinyDeepseek{.split_no = i, .split_count = 3}.write("splits-0000" + std::to_string(i + 1) + "-of-00003"));
  const auto whole = Checkpoint::open(paths[0]);
  ASSERT_TRUE(whole.has_value()) << whole.error().message;
  ASSERT_NE(whole->find("blk.2.attn_k_b.weight"), nullptr);
  const auto second = Checkpoint::open(paths[1]);
  ASSERT_FALSE(second.has_value());
  EXPECT_THAT(second.error().message, HasSubstr("split 2 of 3: open the first one"));
  std::filesystem::remove(paths[2]);
  const auto missing = Checkpoint::open(paths[0]);
  ASSERT_FALSE(missing.has_value());
  EXPECT_THAT(missing.error().message, HasSubstr("homeport_splits-00003-of-00003.gguf"));
  for (const auto& p : paths) std::filesystem::remove(p);
}

}  // namespace
}  // namespace hp
