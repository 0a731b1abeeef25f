#include "model/tensor_names.h"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "model/limits.h"

namespace hp {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

constexpr Pair kGlobal[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

constexpr Pair kLayer[] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"self_attn.q_a_proj.weight", "attn_q_a.weight"},
    {"self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"},
    {"self_attn.q_b_proj.weight", "attn_q_b.weight"},
    {"self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"},
    {"self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"},
    {"self_attn.kv_b_proj.weight", "attn_kv_b.weight"},
    {"mlp.gate.weight", "ffn_gate_inp.weight"},
    {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {"mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight"},
    {"mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"},
    {"mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"},
    {"enorm.weight", "nextn.enorm.weight"},
    {"hnorm.weight", "nextn.hnorm.weight"},
    {"eh_proj.weight", "nextn.eh_proj.weight"},
    {"shared_head.norm.weight", "nextn.shared_head_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
};

constexpr Pair kExpert[] = {
    {"gate_proj.weight", "ffn_gate_exps"},
    {"up_proj.weight", "ffn_up_exps"},
    {"down_proj.weight", "ffn_down_exps"},
};

// What stands beside a quantized weight: DeepSeek's block scales, compressed-tensors' members.
constexpr std::string_view kCompanions[] = {"_scale_inv", "_packed", "_scale", "_zero_point", "_shape", "_g_idx"};

constexpr std::string_view kLayerPrefix = "model.layers.";
constexpr std::string_view kExpertPrefix = "mlp.experts.";

/// Cuts "17." off the front; -1 when no number of at most `limit` stands there. "007" is no number: two names must
/// never mean one tensor.
std::int32_t take_number(std::string_view& rest, std::int32_t limit) {
  const std::size_t dot = rest.find('.');
  if (dot == std::string_view::npos || dot == 0 || (dot > 1 && rest[0] == '0') || rest[0] == '-') return -1;
  std::int32_t number = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + dot, number);
  if (error != std::errc() || end != rest.data() + dot || number < 0 || number >= limit) return -1;
  rest.remove_prefix(dot + 1);
  return number;
}

std::optional<std::string> layer_tensor(std::string_view rest) {
  const std::int32_t layer = take_number(rest, limits::kMaxLayers);
  if (layer < 0) return std::nullopt;
  for (const auto& [from, to] : kLayer)
    if (rest == from) return fmt::format("blk.{}.{}", layer, to);
  if (!rest.starts_with(kExpertPrefix)) return std::nullopt;
  rest.remove_prefix(kExpertPrefix.size());
  const std::int32_t expert = take_number(rest, limits::kMaxExperts);
  if (expert < 0) return std::nullopt;
  for (const auto& [from, to] : kExpert)
    if (rest == from) return fmt::format("blk.{}.{}.{}.weight", layer, to, expert);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> canonical_tensor_name(std::string_view hf_name) {
  for (const auto& [from, to] : kGlobal)
    if (hf_name == from) return std::string(to);
  for (const std::string_view companion : kCompanions) {
    if (!hf_name.ends_with(companion)) continue;
    const std::string_view weight = hf_name.substr(0, hf_name.size() - companion.size());
    if (!weight.ends_with(".weight")) continue;
    const auto name = canonical_tensor_name(weight);
    return name ? std::optional(*name + std::string(companion)) : std::nullopt;
  }
  if (!hf_name.starts_with(kLayerPrefix)) return std::nullopt;
  return layer_tensor(hf_name.substr(kLayerPrefix.size()));
}

}  // namespace hp
