#include "model/model_config.h"

#include <algorithm>
#include <cmath>

#include "model/limits.h"

namespace hp {

std::string_view to_string(Architecture a) {
  switch (a) {
    case Architecture::llama:
      return "llama";
    case Architecture::qwen2:
      return "qwen2";
    case Architecture::qwen3:
      return "qwen3";
    case Architecture::deepseek_moe:
      return "deepseek";
    case Architecture::deepseek_v2:
      return "deepseek_v2";
    case Architecture::deepseek_v3:
      return "deepseek_v3";
  }
  return "unknown";
}

bool ModelConfig::is_moe_layer(std::int32_t layer) const {
  return moe.has_value() && layer >= moe->first_dense_layers && layer % moe->layer_step == 0;
}

double attention_scale(const ModelConfig& c) {
  if (!c.mla.has_value()) return 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  double scale = 1.0 / std::sqrt(static_cast<double>(c.mla->qk_nope_dim + c.mla->qk_rope_dim));
  if (c.rope.scaling == RopeConfig::Scaling::yarn && c.rope.mscale_all_dim > 0.0F && c.rope.factor > 1.0F) {
    const double m = 0.1 * double{c.rope.mscale_all_dim} * std::log(double{c.rope.factor}) + 1.0;
    scale *= m * m;
  }
  return scale;
}

namespace {

Status in_range(std::string_view field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return {};
  Error error{.code = ErrorCode::corrupt_data,
              .message = fmt::format("{} is {}, expected {} to {}", field, value, low, high)};
  error.where = field;
  return fail(std::move(error));
}

Status validate_attention(const ModelConfig& c) {
  HP_TRY_VOID(in_range("head count", c.heads, 1, 4096));
  if (c.mla.has_value()) {
    HP_TRY_VOID(in_range("kv_lora_rank", c.mla->kv_lora_rank, 1, limits::kMaxHidden));
    HP_TRY_VOID(in_range("q_lora_rank", c.mla->q_lora_rank, 0, limits::kMaxHidden));
    HP_TRY_VOID(in_range("qk_nope_dim", c.mla->qk_nope_dim, 1, 4096));
    HP_TRY_VOID(in_range("qk_rope_dim", c.mla->qk_rope_dim, 2, 4096));
    HP_TRY_VOID(in_range("v_dim", c.mla->v_dim, 1, 4096));
    if (c.rope.dims != c.mla->qk_rope_dim)
      return fail(ErrorCode::corrupt_data, "rope dimensions are {}, expected qk_rope_dim {}", c.rope.dims,
                  c.mla->qk_rope_dim);
  } else {
    HP_TRY_VOID(in_range("kv head count", c.kv_heads, 1, c.heads));
    if (c.heads % c.kv_heads != 0)
      return fail(ErrorCode::corrupt_data, "head count {} is no multiple of kv head count {}", c.heads, c.kv_heads);
    HP_TRY_VOID(in_range("head dimension", c.head_dim, 2, 4096));
    HP_TRY_VOID(in_range("value head dimension", c.v_head_dim, 1, 4096));
  }
  HP_TRY_VOID(in_range("rope dimensions", c.rope.dims, 2, 4096));
  if (c.rope.dims % 2 != 0) return fail(ErrorCode::corrupt_data, "rope dimensions {} are odd", c.rope.dims);
  if (!(c.rope.theta > 0.0F) || !(c.rope.factor > 0.0F))
    return fail(ErrorCode::corrupt_data, "rope theta {} and factor {} must be positive", c.rope.theta, c.rope.factor);
  return {};
}

Status validate_moe(const MoeConfig& m, std::int32_t layers) {
  HP_TRY_VOID(in_range("expert count", m.experts, 1, limits::kMaxExperts));
  HP_TRY_VOID(in_range("experts per token", m.experts_per_token, 1, std::min(m.experts, limits::kMaxExpertsPerToken)));
  HP_TRY_VOID(in_range("expert feed-forward size", m.expert_ffn, 1, limits::kMaxHidden * 4));
  HP_TRY_VOID(in_range("first dense layers", m.first_dense_layers, 0, layers));
  HP_TRY_VOID(in_range("MoE layer step", m.layer_step, 1, layers));
  HP_TRY_VOID(in_range("expert groups", m.groups, 1, std::min(m.experts, limits::kMaxExpertGroups)));
  HP_TRY_VOID(in_range("expert groups per token", m.groups_per_token, 1, m.groups));
  HP_TRY_VOID(in_range("shared experts", m.shared_experts, 0, 1024));
  if (!std::isfinite(m.weight_scale) || m.weight_scale == 0.0F)
    return fail(ErrorCode::corrupt_data, "the scale of expert weights is {}", m.weight_scale);
  if (m.experts % m.groups != 0)
    return fail(ErrorCode::corrupt_data, "expert count {} is no multiple of the group count {}", m.experts, m.groups);
  const std::int64_t group = m.experts / m.groups;
  if (m.group_score != MoeConfig::GroupScore::none && m.experts_per_token > group * m.groups_per_token)
    return fail(ErrorCode::corrupt_data, "experts per token {}, but {} groups of {} hold only {}", m.experts_per_token,
                m.groups_per_token, group, group * m.groups_per_token);
  if (m.group_score == MoeConfig::GroupScore::top2_sum && group < 2)
    return fail(ErrorCode::corrupt_data, "expert groups of {}: scoring a group by its best two needs two", group);
  return {};
}

}  // namespace

Status validate(const ModelConfig& c) {
  HP_TRY_VOID(in_range("layer count", c.layers, 1, limits::kMaxLayers));
  HP_TRY_VOID(in_range("hidden size", c.hidden, 1, limits::kMaxHidden));
  HP_TRY_VOID(in_range("feed-forward size", c.ffn, 1, limits::kMaxHidden * 4));
  HP_TRY_VOID(in_range("vocabulary size", c.vocab, 1, limits::kMaxVocab));
  HP_TRY_VOID(in_range("context length", c.context, 1, std::int64_t{1} << 30));
  if (!(c.rms_eps > 0.0F && c.rms_eps < 1.0F))
    return fail(ErrorCode::corrupt_data, "RMS norm epsilon is {}, expected a small positive number", c.rms_eps);
  HP_TRY_VOID(validate_attention(c));
  if (c.moe.has_value()) HP_TRY_VOID(validate_moe(*c.moe, c.layers));
  HP_TRY_VOID(in_range("next-token-prediction layers", c.mtp_layers, 0, 16));
  return {};
}

}  // namespace hp
