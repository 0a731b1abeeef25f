#include "arch/cpu/weights.h"

#include <string>

namespace hp {
namespace {

Status add_gqa(const ModelConfig& c, const std::string& p, WeightPacking& packing, GqaWeights& w) {
  const std::int32_t q_out = c.heads * c.head_dim, k_out = c.kv_heads * c.head_dim, v_out = c.kv_heads * c.v_head_dim;
  if (c.qk_norm) {
    HP_TRY_VOID(packing.row(p + "attn_q_norm.weight", c.head_dim, w.q_norm));
    HP_TRY_VOID(packing.row(p + "attn_k_norm.weight", c.head_dim, w.k_norm));
  }
  if (c.qkv_bias) {
    HP_TRY_VOID(packing.row(p + "attn_q.bias", q_out, w.q_bias));
    HP_TRY_VOID(packing.row(p + "attn_k.bias", k_out, w.k_bias));
    HP_TRY_VOID(packing.row(p + "attn_v.bias", v_out, w.v_bias));
  }
  HP_TRY_VOID(packing.matrix(p + "attn_q.weight", q_out, c.hidden, w.q));
  HP_TRY_VOID(packing.matrix(p + "attn_k.weight", k_out, c.hidden, w.k));
  HP_TRY_VOID(packing.matrix(p + "attn_v.weight", v_out, c.hidden, w.v));
  return packing.matrix(p + "attn_output.weight", c.hidden, c.heads * c.v_head_dim, w.o);
}

// One tensor [heads · (nope + v), rank] or two, cut into the matrices of every head.
Status add_kv_b(const ModelConfig& c, const std::string& p, bool split, WeightPacking& packing, MlaWeights& w) {
  const MlaConfig& a = *c.mla;
  w.k_b.resize(static_cast<std::size_t>(c.heads));
  w.v_b.resize(static_cast<std::size_t>(c.heads));
  const auto cut = [&](const char* name, std::vector<kernels::PackedMatrix>& heads, std::int32_t stride,
                       MatrixSlice slice) -> Status {
    for (kernels::PackedMatrix& head : heads) {
      HP_TRY_VOID(packing.slice(p + name, slice, head));
      slice.first_row += stride;
    }
    return {};
  };
  if (split) {
    HP_TRY_VOID(cut("attn_k_b.weight", w.k_b, a.kv_lora_rank, {.n = a.kv_lora_rank, .k = a.qk_nope_dim}));
    return cut("attn_v_b.weight", w.v_b, a.v_dim, {.n = a.v_dim, .k = a.kv_lora_rank});
  }
  const std::int32_t stride = a.qk_nope_dim + a.v_dim;
  HP_TRY_VOID(cut("attn_kv_b.weight", w.k_b, stride, {.n = a.kv_lora_rank, .k = a.qk_nope_dim, .transposed = true}));
  return cut("attn_kv_b.weight", w.v_b, stride, {.first_row = a.qk_nope_dim, .n = a.v_dim, .k = a.kv_lora_rank});
}

Status add_mla(const ModelConfig& c, const std::string& p, bool split_kv_b, WeightPacking& packing, MlaWeights& w) {
  const MlaConfig& a = *c.mla;
  const std::int32_t q_out = c.heads * (a.qk_nope_dim + a.qk_rope_dim);
  if (a.q_lora_rank > 0) {
    HP_TRY_VOID(packing.row(p + "attn_q_a_norm.weight", a.q_lora_rank, w.q_a_norm));
    HP_TRY_VOID(packing.matrix(p + "attn_q_a.weight", a.q_lora_rank, c.hidden, w.q_a));
    HP_TRY_VOID(packing.matrix(p + "attn_q_b.weight", q_out, a.q_lora_rank, w.q));
  } else {
    HP_TRY_VOID(packing.matrix(p + "attn_q.weight", q_out, c.hidden, w.q));
  }
  HP_TRY_VOID(packing.row(p + "attn_kv_a_norm.weight", a.kv_lora_rank, w.kv_a_norm));
  HP_TRY_VOID(packing.matrix(p + "attn_kv_a_mqa.weight", a.kv_lora_rank + a.qk_rope_dim, c.hidden, w.kv_a));
  HP_TRY_VOID(add_kv_b(c, p, split_kv_b, packing, w));
  return packing.matrix(p + "attn_output.weight", c.hidden, c.heads * a.v_dim, w.o);
}

Status add_ffn(const std::string& p, const std::string& suffix, std::int32_t ffn, std::int32_t hidden,
               WeightPacking& packing, FfnWeights& w) {
  HP_TRY_VOID(packing.matrix(p + "ffn_gate" + suffix + ".weight", ffn, hidden, w.gate));
  HP_TRY_VOID(packing.matrix(p + "ffn_up" + suffix + ".weight", ffn, hidden, w.up));
  return packing.matrix(p + "ffn_down" + suffix + ".weight", hidden, ffn, w.down);
}

Status add_experts(const ModelConfig& c, const std::string& name, bool merged, std::int32_t n, std::int32_t k,
                   WeightPacking& packing, MoeWeights& w, kernels::PackedMatrix FfnWeights::*part) {
  for (std::int32_t e = 0; e < c.moe->experts; ++e) {
    kernels::PackedMatrix& target = w.experts[static_cast<std::size_t>(e)].*part;
    if (merged) {
      HP_TRY_VOID(packing.slice(name, {.first_row = std::int64_t{e} * n, .n = n, .k = k}, target));
    } else {
      HP_TRY_VOID(packing.matrix(expert_tensor_name(name, e), n, k, target));
    }
  }
  return {};
}

Status add_moe(const ModelConfig& c, const std::string& p, bool merged, WeightPacking& packing, MoeWeights& w) {
  const MoeConfig& m = *c.moe;
  w.experts.resize(static_cast<std::size_t>(m.experts));
  HP_TRY_VOID(packing.slice(p + "ffn_gate_inp.weight", {.n = m.experts, .k = c.hidden, .as_floats = true}, w.router));
  if (m.has_score_bias) HP_TRY_VOID(packing.row(p + "exp_probs_b.bias", m.experts, w.score_bias));
  HP_TRY_VOID(
      add_experts(c, p + "ffn_gate_exps.weight", merged, m.expert_ffn, c.hidden, packing, w, &FfnWeights::gate));
  HP_TRY_VOID(add_experts(c, p + "ffn_up_exps.weight", merged, m.expert_ffn, c.hidden, packing, w, &FfnWeights::up));
  HP_TRY_VOID(
      add_experts(c, p + "ffn_down_exps.weight", merged, c.hidden, m.expert_ffn, packing, w, &FfnWeights::down));
  if (m.shared_experts == 0) return {};
  return add_ffn(p, "_shexp", m.shared_experts * m.expert_ffn, c.hidden, packing, w.shared.emplace());
}

Status add_layer(const ModelConfig& c, TensorForms forms, std::int32_t index, WeightPacking& packing,
                 LayerWeights& layer) {
  const std::string p = "blk." + std::to_string(index) + ".";
  HP_TRY_VOID(packing.row(p + "attn_norm.weight", c.hidden, layer.attn_norm));
  HP_TRY_VOID(packing.row(p + "ffn_norm.weight", c.hidden, layer.ffn_norm));
  if (c.mla.has_value()) {
    HP_TRY_VOID(add_mla(c, p, forms.split_kv_b, packing, layer.attention.emplace<MlaWeights>()));
  } else {
    HP_TRY_VOID(add_gqa(c, p, packing, layer.attention.emplace<GqaWeights>()));
  }
  if (c.is_moe_layer(index) || (c.moe.has_value() && index >= c.layers))
    return add_moe(c, p, forms.merged_experts, packing, layer.ffn.emplace<MoeWeights>());
  return add_ffn(p, "", c.ffn, c.hidden, packing, layer.ffn.emplace<FfnWeights>());
}

Status add_prediction(const ModelConfig& c, TensorForms forms, WeightPacking& packing, PredictionWeights& w) {
  const std::string p = "blk." + std::to_string(c.layers) + ".nextn.";
  HP_TRY_VOID(packing.row(p + "enorm.weight", c.hidden, w.embedding_norm));
  HP_TRY_VOID(packing.row(p + "hnorm.weight", c.hidden, w.hidden_norm));
  HP_TRY_VOID(packing.row(p + "shared_head_norm.weight", c.hidden, w.output_norm));
  HP_TRY_VOID(packing.matrix(p + "eh_proj.weight", c.hidden, 2 * c.hidden, w.join));
  return add_layer(c, forms, c.layers, packing, w.layer);
}

std::size_t floats_of(const LayerWeights& layer) {
  std::size_t floats = layer.attn_norm.size() + layer.ffn_norm.size();
  if (const auto* g = std::get_if<GqaWeights>(&layer.attention))
    floats += g->q_norm.size() + g->k_norm.size() + g->q_bias.size() + g->k_bias.size() + g->v_bias.size();
  if (const auto* m = std::get_if<MlaWeights>(&layer.attention)) floats += m->q_a_norm.size() + m->kv_a_norm.size();
  if (const auto* m = std::get_if<MoeWeights>(&layer.ffn)) floats += m->score_bias.size();
  return floats;
}

}  // namespace

std::size_t bytes_held(const ModelWeights& weights) {
  std::size_t floats = weights.output_norm.size();
  for (const LayerWeights& layer : weights.layers) floats += floats_of(layer);
  if (weights.prediction) {
    const PredictionWeights& p = *weights.prediction;
    floats += p.embedding_norm.size() + p.hidden_norm.size() + p.output_norm.size() + floats_of(p.layer);
  }
  return weights.packed.size() + floats * sizeof(float);
}

Result<ModelWeights> load_weights(const Checkpoint& checkpoint, const ShardPlan& plan, bool predicts,
                                  ParallelTeam& team) {
  const ModelConfig& c = plan.config();
  ModelWeights weights;
  weights.layers.resize(static_cast<std::size_t>(c.layers));
  WeightPacking packing(checkpoint, &plan);
  HP_TRY_VOID(packing.matrix("token_embd.weight", plan.ids(), c.hidden, weights.embedding));
  const bool own_head = checkpoint.find("output.weight") != nullptr;
  if (own_head) HP_TRY_VOID(packing.matrix("output.weight", plan.ids(), c.hidden, weights.head));
  HP_TRY_VOID(packing.row("output_norm.weight", c.hidden, weights.output_norm));
  for (std::int32_t i = 0; i < c.layers; ++i)
    HP_TRY_VOID(add_layer(c, checkpoint.forms(), i, packing, weights.layers[static_cast<std::size_t>(i)]));
  if (predicts) HP_TRY_VOID(add_prediction(c, checkpoint.forms(), packing, weights.prediction.emplace()));
  HP_TRY(weights.packed, packing.pack_all(team));
  if (!own_head) weights.head = weights.embedding;
  return weights;
}

}  // namespace hp
