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
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
};

constexpr std::string_view kLayerPrefix = "model.layers.";

}  // namespace

std::optional<std::string> canonical_tensor_name(std::string_view hf_name) {
  for (const auto& [from, to] : kGlobal)
    if (hf_name == from) return std::string(to);
  if (!hf_name.starts_with(kLayerPrefix)) return std::nullopt;
  const std::string_view rest = hf_name.substr(kLayerPrefix.size());
  const std::size_t dot = rest.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  std::int32_t layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + dot, layer);
  // "007" is no layer number: two names must never mean one tensor.
  if (error != std::errc() || end != rest.data() + dot || layer < 0 || layer >= limits::kMaxLayers ||
      (dot > 1 && rest[0] == '0') || rest[0] == '-')
    return std::nullopt;
  for (const auto& [from, to] : kLayer)
    if (rest.substr(dot + 1) == from) return fmt::format("blk.{}.{}", layer, to);
  return std::nullopt;
}

}  // namespace hp
