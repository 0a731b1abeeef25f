#include "model/tensor_table.h"

#include <fmt/format.h>

namespace hp {
namespace {

/// Appends the tensors of one block after the other.
class Table {
 public:
  Table(const ModelConfig& config, TensorForms forms) : c_(config), forms_(forms) {}

  std::vector<TensorSpec> build() {
    global("token_embd.weight", {c_.vocab, c_.hidden}, TensorClass::embedding, "vocab_size, hidden_size");
    global("output_norm.weight", {c_.hidden}, TensorClass::norm, "hidden_size");
    if (!c_.tied_embeddings)
      global("output.weight", {c_.vocab, c_.hidden}, TensorClass::head, "vocab_size, hidden_size");
    for (layer_ = 0; layer_ < c_.layers + c_.mtp_layers; ++layer_) block();
    return std::move(out_);
  }

 private:
  void global(std::string_view name, const Shape& shape, TensorClass tensor_class, std::string_view formula) {
    out_.push_back({std::string(name), shape, tensor_class, formula});
  }
  void add(std::string_view name, const Shape& shape, TensorClass tensor_class, std::string_view formula) {
    out_.push_back({fmt::format("blk.{}.{}", layer_, name), shape, tensor_class, formula});
  }

  void block() {
    add("attn_norm.weight", {c_.hidden}, TensorClass::norm, "hidden_size");
    add("ffn_norm.weight", {c_.hidden}, TensorClass::norm, "hidden_size");
    if (c_.mla.has_value()) {
      latent_attention(*c_.mla);
    } else {
      grouped_attention();
    }
    const bool predicts = layer_ >= c_.layers;
    if (c_.moe.has_value() && (predicts || c_.is_moe_layer(layer_))) {
      experts(*c_.moe);
    } else {
      add("ffn_gate.weight", {c_.ffn, c_.hidden}, TensorClass::dense_ffn, "intermediate_size, hidden_size");
      add("ffn_up.weight", {c_.ffn, c_.hidden}, TensorClass::dense_ffn, "intermediate_size, hidden_size");
      add("ffn_down.weight", {c_.hidden, c_.ffn}, TensorClass::dense_ffn, "hidden_size, intermediate_size");
    }
    if (predicts) prediction();
  }

  void grouped_attention() {
    const std::int64_t q = std::int64_t{c_.heads} * c_.head_dim, k = std::int64_t{c_.kv_heads} * c_.head_dim;
    const std::int64_t v = std::int64_t{c_.kv_heads} * c_.v_head_dim, o = std::int64_t{c_.heads} * c_.v_head_dim;
    const auto matrix = [this](std::string_view name, std::int64_t n, std::int64_t cols, std::string_view formula) {
      add(name, {n, cols}, TensorClass::attention, formula);
    };
    matrix("attn_q.weight", q, c_.hidden, "num_attention_heads * head_dim, hidden_size");
    matrix("attn_k.weight", k, c_.hidden, "num_key_value_heads * head_dim, hidden_size");
    matrix("attn_v.weight", v, c_.hidden, "num_key_value_heads * head_dim, hidden_size");
    matrix("attn_output.weight", c_.hidden, o, "hidden_size, num_attention_heads * head_dim");
    if (c_.qkv_bias) {
      add("attn_q.bias", {q}, TensorClass::norm, "num_attention_heads * head_dim");
      add("attn_k.bias", {k}, TensorClass::norm, "num_key_value_heads * head_dim");
      add("attn_v.bias", {v}, TensorClass::norm, "num_key_value_heads * head_dim");
    }
    if (c_.qk_norm) {
      add("attn_q_norm.weight", {c_.head_dim}, TensorClass::norm, "head_dim");
      add("attn_k_norm.weight", {c_.head_dim}, TensorClass::norm, "head_dim");
    }
  }

  void latent_attention(const MlaConfig& a) {
    const std::int64_t q = std::int64_t{c_.heads} * (a.qk_nope_dim + a.qk_rope_dim);
    const auto matrix = [this](std::string_view name, const Shape& shape, std::string_view formula) {
      add(name, shape, TensorClass::attention, formula);
    };
    if (a.q_lora_rank == 0) {
      matrix("attn_q.weight", {q, c_.hidden},
             "num_attention_heads * (qk_nope_head_dim + qk_rope_head_dim), hidden_size; no q_lora_rank");
    } else {
      matrix("attn_q_a.weight", {a.q_lora_rank, c_.hidden}, "q_lora_rank, hidden_size");
      add("attn_q_a_norm.weight", {a.q_lora_rank}, TensorClass::norm, "q_lora_rank");
      matrix("attn_q_b.weight", {q, a.q_lora_rank},
             "num_attention_heads * (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank");
    }
    matrix("attn_kv_a_mqa.weight", {a.kv_lora_rank + a.qk_rope_dim, c_.hidden},
           "kv_lora_rank + qk_rope_head_dim, hidden_size");
    add("attn_kv_a_norm.weight", {a.kv_lora_rank}, TensorClass::norm, "kv_lora_rank");
    if (forms_.split_kv_b) {
      matrix("attn_k_b.weight", {c_.heads, a.kv_lora_rank, a.qk_nope_dim},
             "num_attention_heads, kv_lora_rank, qk_nope_head_dim");
      matrix("attn_v_b.weight", {c_.heads, a.v_dim, a.kv_lora_rank}, "num_attention_heads, v_head_dim, kv_lora_rank");
    } else {
      matrix("attn_kv_b.weight", {std::int64_t{c_.heads} * (a.qk_nope_dim + a.v_dim), a.kv_lora_rank},
             "num_attention_heads * (qk_nope_head_dim + v_head_dim), kv_lora_rank");
    }
    matrix("attn_output.weight", {c_.hidden, std::int64_t{c_.heads} * a.v_dim},
           "hidden_size, num_attention_heads * v_head_dim");
  }

  void expert_matrix(const MoeConfig& m, std::string_view name, std::int64_t n, std::int64_t k,
                     std::string_view formula) {
    if (forms_.merged_experts) return add(name, {m.experts, n, k}, TensorClass::routed_expert, formula);
    for (std::int32_t e = 0; e < m.experts; ++e)
      add(expert_tensor_name(name, e), {n, k}, TensorClass::routed_expert, formula);
  }

  void experts(const MoeConfig& m) {
    add("ffn_gate_inp.weight", {m.experts, c_.hidden}, TensorClass::router, "n_routed_experts, hidden_size");
    if (m.has_score_bias) add("exp_probs_b.bias", {m.experts}, TensorClass::router, "n_routed_experts");
    constexpr std::string_view kWide = "n_routed_experts, moe_intermediate_size, hidden_size";
    expert_matrix(m, "ffn_gate_exps.weight", m.expert_ffn, c_.hidden, kWide);
    expert_matrix(m, "ffn_up_exps.weight", m.expert_ffn, c_.hidden, kWide);
    expert_matrix(m, "ffn_down_exps.weight", c_.hidden, m.expert_ffn,
                  "n_routed_experts, hidden_size, moe_intermediate_size");
    if (m.shared_experts == 0) return;
    const std::int64_t shared = std::int64_t{m.shared_experts} * m.expert_ffn;
    constexpr std::string_view kShared = "n_shared_experts * moe_intermediate_size, hidden_size";
    add("ffn_gate_shexp.weight", {shared, c_.hidden}, TensorClass::shared_expert, kShared);
    add("ffn_up_shexp.weight", {shared, c_.hidden}, TensorClass::shared_expert, kShared);
    add("ffn_down_shexp.weight", {c_.hidden, shared}, TensorClass::shared_expert,
        "hidden_size, n_shared_experts * moe_intermediate_size");
  }

  void prediction() {
    add("nextn.enorm.weight", {c_.hidden}, TensorClass::norm, "hidden_size");
    add("nextn.hnorm.weight", {c_.hidden}, TensorClass::norm, "hidden_size");
    add("nextn.shared_head_norm.weight", {c_.hidden}, TensorClass::norm, "hidden_size");
    add("nextn.eh_proj.weight", {c_.hidden, std::int64_t{2} * c_.hidden}, TensorClass::prediction,
        "hidden_size, 2 * hidden_size");
  }

  const ModelConfig& c_;
  TensorForms forms_;
  std::int32_t layer_ = 0;
  std::vector<TensorSpec> out_;
};

}  // namespace

std::string expert_tensor_name(std::string_view merged, std::int32_t expert) {
  return fmt::format("{}.{}.weight", merged.substr(0, merged.rfind('.')), expert);
}

std::vector<TensorSpec> tensor_table(const ModelConfig& config, TensorForms forms) {
  return Table(config, forms).build();
}

}  // namespace hp
