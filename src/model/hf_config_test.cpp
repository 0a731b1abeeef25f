#include "model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/tensor_names.h"

namespace hp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A small config.json; `more` adds or, standing last, replaces members.
std::string config(const std::string& architecture, const std::string& more = "") {
  return R"({"architectures":[")" + architecture +
         R"("],"num_hidden_layers":2,"hidden_size":64,"intermediate_size":96,)"
         R"("vocab_size":128,"max_position_embeddings":2048,"num_attention_heads":4,"num_key_value_heads":2,)"
         R"("hidden_act":"silu","rms_norm_eps":1e-5,"bos_token_id":1,"eos_token_id":[2,7],"rope_scaling":null)" +
         (more.empty() ? "" : "," + more) + "}";
}

std::string error_of(const std::string& text) {
  const auto c = config_from_hf(text, "config.json");
  return c ? "accepted" : c.error().message;
}

TEST(HfConfig, ReadsTheDenseFamilies) {
  const auto llama = config_from_hf(config("LlamaForCausalLM"), "config.json");
  ASSERT_TRUE(llama.has_value()) << llama.error().message;
  EXPECT_EQ(llama->architecture, Architecture::llama);
  EXPECT_EQ(llama->head_dim, 16);
  EXPECT_EQ(llama->kv_heads, 2);
  EXPECT_EQ(llama->rope.layout, RopeLayout::halves);
  EXPECT_EQ(llama->rope.dims, 16);
  EXPECT_FALSE(llama->qkv_bias || llama->qk_norm || llama->tied_embeddings);
  EXPECT_EQ(llama->bos, 1);
  EXPECT_THAT(llama->eos, ElementsAre(2, 7));

  const auto qwen2 = config_from_hf(config("Qwen2ForCausalLM", R"("tie_word_embeddings":true,"rope_theta":1e6)"), "c");
  ASSERT_TRUE(qwen2.has_value()) << qwen2.error().message;
  EXPECT_TRUE(qwen2->qkv_bias && qwen2->tied_embeddings);
  EXPECT_EQ(qwen2->rope.theta, 1e6F);

  const auto qwen3 = config_from_hf(config("Qwen3ForCausalLM", R"("head_dim":32,"eos_token_id":3)"), "c");
  ASSERT_TRUE(qwen3.has_value()) << qwen3.error().message;
  EXPECT_TRUE(qwen3->qk_norm);
  EXPECT_EQ(qwen3->head_dim, 32);
  EXPECT_THAT(qwen3->eos, ElementsAre(3));
}

TEST(HfConfig, ReadsRopeScaling) {
  const auto llama3 = config_from_hf(
      config("LlamaForCausalLM", R"("rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,)"
                                 R"("low_freq_factor":1.0,"high_freq_factor":4.0,)"
                                 R"("original_max_position_embeddings":8192})"),
      "c");
  ASSERT_TRUE(llama3.has_value()) << llama3.error().message;
  EXPECT_EQ(llama3->rope.scaling, RopeConfig::Scaling::llama3);
  EXPECT_EQ(llama3->rope.factor, 8.0F);
  EXPECT_EQ(llama3->rope.original_context, 8192);

  // R1-0528-Qwen3-8B: its attn_factor cancels YaRN's own 0.1 ln 4 + 1.
  const auto yarn = config_from_hf(
      config("Qwen3ForCausalLM", R"("rope_scaling":{"type":"yarn","factor":4.0,"attn_factor":0.8782488562869419,)"
                                 R"("original_max_position_embeddings":32768})"),
      "c");
  ASSERT_TRUE(yarn.has_value()) << yarn.error().message;
  EXPECT_EQ(yarn->rope.scaling, RopeConfig::Scaling::yarn);
  EXPECT_NEAR(yarn->rope.attention_factor.value_or(0), 1.0F, 1e-6F);

  const auto newer = config_from_hf(
      config("LlamaForCausalLM", R"("rope_parameters":{"rope_type":"default","rope_theta":7000.0})"), "c");
  ASSERT_TRUE(newer.has_value()) << newer.error().message;
  EXPECT_EQ(newer->rope.theta, 7000.0F);
  EXPECT_EQ(newer->rope.scaling, RopeConfig::Scaling::none);
}

TEST(HfConfig, RefusesWhatItCannotCompute) {
  const auto llama = [](const std::string& more) { return error_of(config("LlamaForCausalLM", more)); };
  EXPECT_THAT(error_of(config("MambaForCausalLM")), HasSubstr("MambaForCausalLM"));
  EXPECT_THAT(llama(R"("hidden_act":"gelu")"), HasSubstr("gelu"));
  EXPECT_THAT(llama(R"("attention_bias":true)"), HasSubstr("attention_bias"));
  EXPECT_THAT(llama(R"("mlp_bias":true)"), HasSubstr("mlp_bias"));
  EXPECT_THAT(llama(R"("use_sliding_window":true)"), HasSubstr("use_sliding_window"));
  EXPECT_THAT(llama(R"("quantization_config":{"quant_method":"gptq"})"), HasSubstr("quantization_config"));
  EXPECT_THAT(llama(R"("rope_scaling":{"type":"dynamic","factor":2})"), HasSubstr("dynamic"));
  EXPECT_THAT(llama(R"("partial_rotary_factor":0.5)"), HasSubstr("partial_rotary_factor"));
}

TEST(HfConfig, RefusesLies) {
  const auto llama = [](const std::string& more) { return error_of(config("LlamaForCausalLM", more)); };
  EXPECT_THAT(error_of("{"), HasSubstr("config.json"));
  EXPECT_THAT(error_of("[]"), HasSubstr("architectures"));
  EXPECT_THAT(error_of(R"({"architectures":["LlamaForCausalLM"]})"), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(llama(R"("num_attention_heads":0)"), HasSubstr("num_attention_heads"));
  EXPECT_THAT(llama(R"("num_key_value_heads":3)"), HasSubstr("kv head count 3"));
  EXPECT_THAT(llama(R"("hidden_size":"big")"), HasSubstr("hidden_size"));
  EXPECT_THAT(llama(R"("num_hidden_layers":9000000000)"), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(llama(R"("eos_token_id":["x"])"), HasSubstr("eos_token_id"));
  EXPECT_THAT(llama(R"("rope_scaling":[1])"), HasSubstr("rope_scaling"));
  EXPECT_THAT(llama(R"("rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":4.0})"),
              HasSubstr("low_freq_factor"));
}

TEST(TensorNames, MapsToCanonicalNames) {
  EXPECT_EQ(canonical_tensor_name("model.embed_tokens.weight"), "token_embd.weight");
  EXPECT_EQ(canonical_tensor_name("model.norm.weight"), "output_norm.weight");
  EXPECT_EQ(canonical_tensor_name("lm_head.weight"), "output.weight");
  EXPECT_EQ(canonical_tensor_name("model.layers.0.self_attn.q_proj.weight"), "blk.0.attn_q.weight");
  EXPECT_EQ(canonical_tensor_name("model.layers.12.post_attention_layernorm.weight"), "blk.12.ffn_norm.weight");
  EXPECT_EQ(canonical_tensor_name("model.layers.3.self_attn.k_proj.bias"), "blk.3.attn_k.bias");
  for (const char* unknown : {"", "model.layers.", "model.layers.x.input_layernorm.weight", "model.layers.1",
                              "model.layers.-1.input_layernorm.weight", "model.layers.01.input_layernorm.weight",
                              "model.layers.99999999999.input_layernorm.weight", "model.layers..mlp.up_proj.weight",
                              "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.input_layernorm.weight "})
    EXPECT_EQ(canonical_tensor_name(unknown), std::nullopt) << unknown;
}

}  // namespace
}  // namespace hp
