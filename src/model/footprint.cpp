#include "model/footprint.h"

#include <algorithm>
#include <initializer_list>

#include "tensor/kv_groups.h"

namespace hp {
namespace {

constexpr std::int32_t kGroup = 32;  // elements that share an activation scale; kernels/params.h has the same number

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}
std::size_t area(std::int32_t rows, std::int64_t width) {
  return z(rows) * z(width);
}
/// Values per row and scale groups per row of an operand that lies as `parts` rows of `width`.
struct Width {
  std::int64_t values = 0, groups = 0;
  void cover(std::int64_t parts, std::int64_t width) {
    values = std::max(values, parts * width);
    groups = std::max(groups, parts * ((width + kGroup - 1) / kGroup));
  }
};

DType type_of(TensorClass c, const WeightTypes& t) {
  switch (c) {
    case TensorClass::embedding:
      return t.embedding;
    case TensorClass::head:
      return t.head;
    case TensorClass::attention:
    case TensorClass::prediction:
      return t.attention;
    case TensorClass::dense_ffn:
      return t.dense_ffn;
    case TensorClass::shared_expert:
      return t.shared_expert;
    case TensorClass::routed_expert:
      return t.routed_expert;
    case TensorClass::norm:
    case TensorClass::router:
      break;
  }
  return DType::f32;
}

void latent_arrays(const ModelConfig& c, std::int32_t rows, StepArrays& a, Width& widest) {
  const MlaConfig& m = *c.mla;
  const std::int64_t latent = m.kv_lora_rank + m.qk_rope_dim;
  a.q = area(rows, std::int64_t{c.heads} * (m.qk_nope_dim + m.qk_rope_dim));
  a.k = area(rows, latent);
  a.q_low = area(rows, m.q_lora_rank);
  a.q_nope = area(rows, std::int64_t{c.heads} * m.qk_nope_dim);
  a.q_latent = area(rows, std::int64_t{c.heads} * latent);
  a.latent = area(rows, std::int64_t{c.heads} * m.kv_lora_rank);
  a.attended = area(rows, std::int64_t{c.heads} * m.v_dim);
  a.route += area(rows, c.heads);  // the rows of every head
  widest.cover(1, m.q_lora_rank);
  widest.cover(c.heads, m.qk_nope_dim);
  widest.cover(c.heads, m.kv_lora_rank);
  widest.cover(1, std::int64_t{c.heads} * m.v_dim);
}

void expert_arrays(const ModelConfig& c, std::int32_t rows, StepArrays& a, Width& widest) {
  const MoeConfig& m = *c.moe;
  const std::int64_t shared = std::int64_t{m.shared_experts} * m.expert_ffn;
  const std::size_t wide = area(rows, std::int64_t{m.experts_per_token} * m.expert_ffn + shared);
  for (std::size_t* array : {&a.gate, &a.up, &a.act}) *array = std::max(*array, wide);
  const std::size_t slots = area(rows, m.experts_per_token);
  a.expert_out = area(rows, std::int64_t{m.experts_per_token} * c.hidden);
  a.scores = area(rows, std::int64_t{2} * m.experts);
  a.slot_weight = slots;
  a.route += 3 * slots + z(m.experts) + 1;
  widest.cover(m.experts_per_token, m.expert_ffn);
  Width alone;
  alone.cover(1, shared);
  a.shared_prepared = area(rows, alone.values);
  a.shared_groups = area(rows, alone.groups);
}

}  // namespace

std::size_t kv_bytes_per_token_layer(const ModelConfig& config, DType kv_dtype) {
  std::size_t elements = 0, groups = 0;
  if (config.mla.has_value()) {
    const std::int32_t latent = config.mla->kv_lora_rank + config.mla->qk_rope_dim;
    elements = z(latent);
    groups = kv_scale_groups(latent);
  } else {
    elements = z(std::int64_t{config.kv_heads} * (config.head_dim + config.v_head_dim));
    groups = z(config.kv_heads) * (kv_scale_groups(config.head_dim) + kv_scale_groups(config.v_head_dim));
  }
  if (kv_dtype == DType::f8_e4m3 && config.mla.has_value()) elements += z(config.mla->qk_rope_dim);  // bf16
  return storage_bytes(kv_dtype, elements) + (kv_dtype == DType::i8 ? storage_bytes(DType::f16, groups) : 0);
}

std::size_t kv_bytes_per_token(const ModelConfig& config, DType kv_dtype) {
  return kv_bytes_per_token_layer(config, kv_dtype) * z(config.layers);
}

std::size_t kv_bytes_per_block(const ModelConfig& config, const KvLayout& layout) {
  const std::int64_t layers = std::int64_t{config.layers} + layout.prediction_layers;
  return kv_bytes_per_token_layer(config, layout.dtype) * z(layers * layout.block_tokens);
}

std::size_t parameters(const ModelConfig& config, TensorClass tensor_class) {
  std::size_t total = 0;
  for (const TensorSpec& t : tensor_table(config, {.merged_experts = true}))
    if (t.tensor_class == tensor_class) total += z(t.shape.elements());
  return total;
}

std::size_t parameters(const ModelConfig& config) {
  std::size_t total = 0;
  for (const TensorSpec& t : tensor_table(config, {.merged_experts = true})) total += z(t.shape.elements());
  return total;
}

std::size_t active_parameters(const ModelConfig& config) {
  ModelConfig answering = config;
  answering.mtp_layers = 0;
  std::size_t total = 0;
  for (const TensorSpec& t : tensor_table(answering, {.merged_experts = true})) {
    const std::size_t elements = z(t.shape.elements());
    if (t.tensor_class == TensorClass::embedding && !config.tied_embeddings) continue;  // a lookup, not a product
    const bool routed = t.tensor_class == TensorClass::routed_expert;
    total += routed ? elements / z(config.moe->experts) * z(config.moe->experts_per_token) : elements;
  }
  return total;
}

std::size_t weight_bytes(const ModelConfig& config, const WeightTypes& types) {
  std::size_t total = 0;
  for (const TensorSpec& t : tensor_table(config, {.merged_experts = true})) {
    const DType type = type_of(t.tensor_class, types);
    const auto block = std::int64_t{traits(type).block_size};
    const std::int64_t blocks = (t.shape.inner() + block - 1) / block;  // a row that does not fill its last block
    total += storage_bytes(type, z(t.shape.elements() / t.shape.inner() * blocks * block));
  }
  return total;
}

StepArrays step_arrays(const ModelConfig& c, const StepLimits& limits) {
  StepArrays a;
  const std::int32_t rows = limits.rows, hidden_rows = std::max(rows, limits.logit_rows);
  Width widest;
  widest.cover(1, c.hidden);
  widest.cover(1, c.ffn);
  if (limits.predicts) {
    widest.cover(1, std::int64_t{2} * c.hidden);
    a.pairs = area(rows, std::int64_t{2} * c.hidden);
  }
  a.x = area(rows, c.hidden);
  a.normed = area(hidden_rows, c.hidden);
  a.gate = a.up = a.act = area(rows, c.ffn);
  if (c.mla.has_value()) {
    latent_arrays(c, rows, a, widest);
  } else {
    a.q = area(rows, std::int64_t{c.heads} * c.head_dim);
    a.k = area(rows, std::int64_t{c.kv_heads} * c.head_dim);
    a.v = area(rows, std::int64_t{c.kv_heads} * c.v_head_dim);
    a.attended = area(rows, std::int64_t{c.heads} * c.v_head_dim);
    widest.cover(1, std::int64_t{c.heads} * c.v_head_dim);
  }
  if (c.moe.has_value()) expert_arrays(c, rows, a, widest);
  a.logits = area(limits.logit_rows, c.vocab);
  if (limits.ranks > 1) {
    a.joined = area(rows, c.hidden);
    a.gathered = area(limits.logit_rows, (c.vocab + limits.ranks - 1) / limits.ranks) * (z(limits.ranks) + 1);
  }
  constexpr std::size_t kFloatsPerLine = kStepAlignment / sizeof(float);
  a.scratch = (limits.scratch_floats + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine * z(limits.members);
  // Beside the widest operand a narrow one: a member may prepare the one while another still reads the other.
  const std::int64_t narrow_groups =
      (std::max<std::int64_t>(c.hidden, std::int64_t{c.heads} * c.v_head_dim) + 31) / 32 + 1;
  a.prepared = area(hidden_rows, static_cast<std::int64_t>(widest.values) + 32 * narrow_groups);
  a.prepared_groups = area(hidden_rows, static_cast<std::int64_t>(widest.groups) + narrow_groups);
  return a;
}

std::size_t step_bytes(const StepArrays& a) {
  std::size_t total = 0;
  const auto add = [&total](std::initializer_list<std::size_t> counts, std::size_t element) {
    for (const std::size_t n : counts) total += (n * element + kStepAlignment - 1) / kStepAlignment * kStepAlignment;
  };
  add({a.x,          a.normed, a.q,           a.k,        a.v,      a.q_low,    a.q_nope,
       a.q_latent,   a.latent, a.pairs,       a.attended, a.gate,   a.up,       a.act,
       a.expert_out, a.scores, a.slot_weight, a.logits,   a.joined, a.gathered, a.scratch},
      sizeof(float));
  for (int scale_sum_isum = 0; scale_sum_isum < 3; ++scale_sum_isum)
    add({a.prepared_groups, a.shared_groups}, sizeof(float));
  add({a.route}, sizeof(std::int32_t));
  add({a.prepared, a.shared_prepared}, sizeof(std::uint16_t));
  add({a.prepared_groups, a.shared_groups}, 64);  // two planes of a byte per value
  return total;
}

}  // namespace hp
