#include "model/hf_deepseek.h"

#include <string>

#include "model/json_fields.h"

namespace hp {
namespace {

Status read_mla(JsonFields& f, ModelConfig& c) {
  MlaConfig mla;
  mla.q_lora_rank = f.integer_or("q_lora_rank", 0);
  mla.kv_lora_rank = f.integer("kv_lora_rank");
  mla.qk_nope_dim = f.integer("qk_nope_head_dim");
  mla.qk_rope_dim = f.integer("qk_rope_head_dim");
  mla.v_dim = f.integer("v_head_dim");
  HP_TRY_VOID(f.status());
  c.mla = mla;
  c.kv_heads = 1;  // one latent, shared by every head
  c.head_dim = mla.qk_nope_dim + mla.qk_rope_dim;
  c.v_head_dim = mla.v_dim;
  c.rope.dims = mla.qk_rope_dim;
  c.rope.layout = f.flag_or("rope_interleave", true) ? RopeLayout::interleaved : RopeLayout::halves;
  if (c.rope.scaling == RopeConfig::Scaling::yarn && c.rope.mscale == 0.0F)
    c.rope.mscale = 1.0F;  // DeepseekV2YarnRotaryEmbedding's default
  return {};
}

Status read_routing(JsonFields& f, Architecture architecture, MoeConfig& moe) {
  const bool v3 = architecture == Architecture::deepseek_v3;
  const std::string scoring = f.text_or("scoring_func", v3 ? "sigmoid" : "softmax");
  const std::string method = f.text_or("topk_method", v3 ? "noaux_tc" : "greedy");
  HP_TRY_VOID(f.status());
  if (scoring != "softmax" && scoring != "sigmoid")
    return fail(ErrorCode::unsupported, "scoring_func '{}'; supported: softmax, sigmoid", scoring);
  moe.scoring = scoring == "sigmoid" ? MoeConfig::Scoring::sigmoid : MoeConfig::Scoring::softmax;
  if (method == "group_limited_greedy") {
    moe.group_score = MoeConfig::GroupScore::max;
  } else if (method == "noaux_tc") {
    moe.group_score = MoeConfig::GroupScore::top2_sum;
    moe.has_score_bias = true;
  } else if (method != "greedy") {
    return fail(ErrorCode::unsupported, "topk_method '{}'; supported: greedy, group_limited_greedy, noaux_tc", method);
  }
  if (moe.group_score != MoeConfig::GroupScore::none) {
    moe.groups = f.integer_or("n_group", 1);
    moe.groups_per_token = f.integer_or("topk_group", 1);
  }
  if (moe.groups == 1) moe.group_score = MoeConfig::GroupScore::none;
  moe.normalize_weights = f.flag_or("norm_topk_prob", v3) && moe.experts_per_token > 1;
  moe.weight_scale = f.number_or("routed_scaling_factor", 1.0F);
  // V2's gate scales or normalizes, V3's does both (MoEGate.forward).
  if (!v3 && moe.normalize_weights) moe.weight_scale = 1.0F;
  return f.status();
}

}  // namespace

bool is_deepseek_moe(Architecture architecture) {
  return architecture == Architecture::deepseek_moe || architecture == Architecture::deepseek_v2 ||
         architecture == Architecture::deepseek_v3;
}

Status read_deepseek(const JsonValue& json, ModelConfig& c) {
  JsonFields f(json);
  if (c.architecture != Architecture::deepseek_moe) HP_TRY_VOID(read_mla(f, c));
  if (f.has("n_routed_experts")) {
    MoeConfig moe;
    moe.experts = f.integer("n_routed_experts");
    moe.shared_experts = f.integer_or("n_shared_experts", 0);
    moe.experts_per_token = f.integer("num_experts_per_tok");
    moe.expert_ffn = f.integer("moe_intermediate_size");
    moe.first_dense_layers = f.integer_or("first_k_dense_replace", 0);
    moe.layer_step = f.integer_or("moe_layer_freq", 1);
    HP_TRY_VOID(read_routing(f, c.architecture, moe));
    c.moe = moe;
  }
  c.mtp_layers = f.integer_or("num_nextn_predict_layers", f.integer_or("num_mtp_layers", 0));
  return f.status();
}

}  // namespace hp
