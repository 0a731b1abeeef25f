#include "model/gguf_config.h"

#include <cmath>
#include <utility>

#include "model/hf_deepseek.h"

namespace hp {
namespace {

/// Reads "<architecture>.<key>" entries and remembers the first one that is missing or out of range.
class KeyReader {
 public:
  KeyReader(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  std::int32_t required_int(std::string_view key) {
    if (const auto v = int_of(key)) return *v;
    if (!error_)
      error_ = Error{.code = ErrorCode::corrupt_data,
                     .message = fmt::format("'{}' has no usable number '{}.{}'", file_.name(), prefix_, key)};
    return 1;
  }
  [[nodiscard]] std::int32_t int_or(std::string_view key, std::int32_t fallback) const {
    return int_of(key).value_or(fallback);
  }
  [[nodiscard]] float float_or(std::string_view key, float fallback) const {
    const auto v = file_.get_double(full(key));
    return v ? static_cast<float>(*v) : fallback;
  }
  [[nodiscard]] bool bool_or(std::string_view key, bool fallback) const {
    return file_.get_bool(full(key)).value_or(fallback);
  }
  [[nodiscard]] const std::string* string(std::string_view key) const { return file_.get_string(full(key)); }
  [[nodiscard]] bool has(std::string_view key) const { return file_.metadata().contains(full(key)); }
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  [[nodiscard]] std::string full(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }
  [[nodiscard]] std::optional<std::int32_t> int_of(std::string_view key) const {
    const auto v = file_.get_int(full(key));
    return v && std::in_range<std::int32_t>(*v) ? std::optional(static_cast<std::int32_t>(*v)) : std::nullopt;
  }

  const GgufFile& file_;
  std::string prefix_;
  std::optional<Error> error_;
};

constexpr std::int64_t kGatingSoftmax = 1, kGatingSigmoid = 2;

Result<Architecture> architecture_of(const GgufFile& file) {
  const std::string* name = file.get_string("general.architecture");
  if (name == nullptr) return fail(ErrorCode::corrupt_data, "'{}' has no general.architecture", file.name());
  if (*name == "llama") return Architecture::llama;
  if (*name == "qwen2") return Architecture::qwen2;
  if (*name == "qwen3") return Architecture::qwen3;
  if (*name == "deepseek") return Architecture::deepseek_moe;
  if (*name == "deepseek2")  // V2 and V3 alike; the gating function tells them apart
    return file.get_int("deepseek2.expert_gating_func") == kGatingSigmoid ? Architecture::deepseek_v3
                                                                          : Architecture::deepseek_v2;
  return fail(ErrorCode::unsupported,
              "'{}' is of architecture '{}'; supported: llama, qwen2, qwen3, deepseek, deepseek2", file.name(), *name);
}

// Llama 3's rule as keys; published files bring rope_freqs.weight instead.
Status read_llama3(const GgufFile& file, const KeyReader& keys, RopeConfig& rope) {
  rope.scaling = RopeConfig::Scaling::llama3;
  rope.low_freq_factor = keys.float_or("rope.scaling.low_freq_factor", rope.low_freq_factor);
  rope.high_freq_factor = keys.float_or("rope.scaling.high_freq_factor", rope.high_freq_factor);
  if (rope.low_freq_factor > 0.0F && rope.high_freq_factor > rope.low_freq_factor && rope.original_context > 0)
    return {};
  return fail(
      ErrorCode::corrupt_data,
      "'{}': rope.scaling low_freq_factor {}, high_freq_factor {}, original_context_length {}: expected positive "
      "numbers, the first below the second",
      file.name(), rope.low_freq_factor, rope.high_freq_factor, rope.original_context);
}

Status read_yarn(const GgufFile& file, const KeyReader& keys, Architecture architecture, RopeConfig& rope) {
  rope.scaling = RopeConfig::Scaling::yarn;
  if (rope.original_context < 1)
    return fail(ErrorCode::corrupt_data, "'{}': rope.scaling.original_context_length is {}, expected a positive number",
                file.name(), rope.original_context);
  rope.beta_fast = keys.float_or("rope.scaling.yarn_beta_fast", rope.beta_fast);
  rope.beta_slow = keys.float_or("rope.scaling.yarn_beta_slow", rope.beta_slow);
  if (architecture == Architecture::deepseek_v2 || architecture == Architecture::deepseek_v3) {
    // Converters store 0.1 · mscale_all_dim and assume that mscale is the same, as in every published file.
    rope.mscale_all_dim = 10.0F * keys.float_or("rope.scaling.yarn_log_multiplier", 0.0F);
    rope.mscale = rope.mscale_all_dim > 0.0F ? rope.mscale_all_dim : 1.0F;
    return {};
  }
  // In GGUF the factor multiplies YaRN's own; ours replaces it.
  if (keys.has("rope.scaling.attn_factor")) {
    const float own = rope.factor > 1.0F ? 0.1F * std::log(rope.factor) + 1.0F : 1.0F;
    rope.attention_factor = keys.float_or("rope.scaling.attn_factor", 1.0F) * own;
  }
  return {};
}

Result<RopeConfig> rope_of(const GgufSet& set, const KeyReader& keys, Architecture architecture,
                           std::int32_t head_dim) {
  const GgufFile& file = set.first();
  RopeConfig rope;
  rope.theta = keys.float_or("rope.freq_base", 10000.0F);
  rope.dims = keys.int_or("rope.dimension_count", head_dim);
  // Converters permute the query and key rows of llama so that pairs lie side by side, DeepSeek's lie so already; the
  // Qwen family keeps halves.
  const bool qwen = architecture == Architecture::qwen2 || architecture == Architecture::qwen3;
  rope.layout = qwen ? RopeLayout::halves : RopeLayout::interleaved;
  rope.factor = keys.float_or("rope.scaling.factor", 1.0F);
  rope.original_context = keys.int_or("rope.scaling.original_context_length", 0);
  const std::string* kind = keys.string("rope.scaling.type");
  if (kind == nullptr || *kind == "none") {
    rope.factor = 1.0F;
  } else if (*kind == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
  } else if (*kind == "yarn") {
    HP_TRY_VOID(read_yarn(file, keys, architecture, rope));
  } else if (*kind == "llama3") {
    HP_TRY_VOID(read_llama3(file, keys, rope));
  } else {
    return fail(ErrorCode::unsupported, "'{}': rope.scaling.type is '{}'; supported: none, linear, llama3, yarn",
                file.name(), *kind);
  }
  if (const GgufTensor* t = set.find("rope_freqs.weight")) {
    if (t->view.dtype != DType::f32 || t->view.shape.elements() != rope.dims / 2)
      return fail(ErrorCode::corrupt_data, "'{}': rope_freqs.weight is {} {}, expected f32 [{}]", file.name(),
                  traits(t->view.dtype).name, t->view.shape.to_string(), rope.dims / 2);
    const auto* values = reinterpret_cast<const float*>(t->view.data);
    rope.frequency_divisors.assign(values, values + t->view.shape.elements());
  }
  return rope;
}

MlaConfig mla_of(KeyReader& keys, std::int32_t heads_key_length, std::int32_t heads_value_length) {
  MlaConfig mla;
  mla.q_lora_rank = keys.int_or("attention.q_lora_rank", 0);
  mla.kv_lora_rank = keys.required_int("attention.kv_lora_rank");
  mla.qk_rope_dim = keys.required_int("rope.dimension_count");
  // Newer files give the latent's widths as key_length and value_length and the heads' own under *_mla.
  mla.qk_nope_dim = keys.int_or("attention.key_length_mla", heads_key_length) - mla.qk_rope_dim;
  mla.v_dim = keys.int_or("attention.value_length_mla", heads_value_length);
  return mla;
}

Result<MoeConfig> moe_of(const GgufSet& set, KeyReader& keys, Architecture architecture) {
  MoeConfig moe;
  moe.experts = keys.required_int("expert_count");
  moe.experts_per_token = keys.required_int("expert_used_count");
  moe.shared_experts = keys.int_or("expert_shared_count", 0);
  moe.expert_ffn = keys.required_int("expert_feed_forward_length");
  moe.first_dense_layers = keys.int_or("leading_dense_block_count", 0);
  moe.weight_scale = keys.float_or("expert_weights_scale", 1.0F);
  if (moe.weight_scale == 0.0F) moe.weight_scale = 1.0F;  // how old converters wrote "none"
  const std::int32_t gating = keys.int_or("expert_gating_func", static_cast<std::int32_t>(kGatingSoftmax));
  if (gating != kGatingSoftmax && gating != kGatingSigmoid)
    return fail(ErrorCode::unsupported, "'{}': expert_gating_func is {}; supported: 1 (softmax), 2 (sigmoid)",
                set.first().name(), gating);
  const bool v3 = architecture == Architecture::deepseek_v3;
  moe.scoring = gating == kGatingSigmoid ? MoeConfig::Scoring::sigmoid : MoeConfig::Scoring::softmax;
  moe.normalize_weights = keys.bool_or("expert_weights_norm", v3) && moe.experts_per_token > 1;
  moe.groups = keys.int_or("expert_group_count", 1);
  moe.groups_per_token = keys.int_or("expert_group_used_count", 1);
  if (moe.groups > 1) moe.group_score = v3 ? MoeConfig::GroupScore::top2_sum : MoeConfig::GroupScore::max;
  moe.has_score_bias = set.find(fmt::format("blk.{}.exp_probs_b.bias", moe.first_dense_layers)) != nullptr;
  return moe;
}

/// What only DeepSeek's families have; head_dim and v_head_dim hold key_length and value_length so far.
Status read_deepseek(const GgufSet& set, KeyReader& keys, ModelConfig& c) {
  if (c.architecture != Architecture::deepseek_moe) {
    const MlaConfig mla = mla_of(keys, c.head_dim, c.v_head_dim);
    c.mla = mla;
    c.kv_heads = 1;  // one latent, shared by every head
    c.head_dim = mla.qk_nope_dim + mla.qk_rope_dim;
    c.v_head_dim = mla.v_dim;
  }
  if (keys.int_or("expert_count", 0) > 0) {
    HP_TRY(c.moe, moe_of(set, keys, c.architecture));
  }
  // Files that keep the prediction layers count them among the blocks.
  const std::int32_t nextn = keys.int_or("nextn_predict_layers", 0);
  const bool kept = nextn > 0 && nextn < c.layers &&
                    set.find(fmt::format("blk.{}.nextn.eh_proj.weight", c.layers - nextn)) != nullptr;
  if (kept) {
    c.layers -= nextn;
    c.mtp_layers = nextn;
  }
  return keys.error() ? fail(*keys.error()) : Status();
}

}  // namespace

Result<ModelConfig> config_from_gguf(const GgufSet& set) {
  const GgufFile& file = set.first();
  HP_TRY(const Architecture architecture, architecture_of(file));
  KeyReader keys(file, *file.get_string("general.architecture"));
  ModelConfig c;
  c.architecture = architecture;
  if (const std::string* name = file.get_string("general.name")) c.name = *name;
  c.layers = keys.required_int("block_count");
  c.hidden = keys.required_int("embedding_length");
  c.ffn = keys.required_int("feed_forward_length");
  c.context = keys.required_int("context_length");
  c.heads = keys.required_int("attention.head_count");
  c.kv_heads = keys.int_or("attention.head_count_kv", c.heads);
  if (keys.error()) return fail(*keys.error());
  if (c.heads < 1) return fail(ErrorCode::corrupt_data, "'{}': attention.head_count is {}", file.name(), c.heads);
  c.head_dim = keys.int_or("attention.key_length", c.hidden / c.heads);
  c.v_head_dim = keys.int_or("attention.value_length", c.head_dim);
  c.rms_eps = keys.float_or("attention.layer_norm_rms_epsilon", 1e-6F);
  const GgufTensor* embedding = set.find("token_embd.weight");
  if (embedding == nullptr || embedding->view.shape.rank() != 2)
    return fail(ErrorCode::corrupt_data, "'{}' has no tensor token_embd.weight of two dimensions", file.name());
  if (!std::in_range<std::int32_t>(embedding->view.shape[0]))
    return fail(ErrorCode::corrupt_data, "'{}': token_embd.weight has {} rows", file.name(), embedding->view.shape[0]);
  c.vocab = static_cast<std::int32_t>(embedding->view.shape[0]);
  c.tied_embeddings = set.find("output.weight") == nullptr;
  c.qkv_bias = set.find("blk.0.attn_q.bias") != nullptr;
  c.qk_norm = set.find("blk.0.attn_q_norm.weight") != nullptr;
  if (is_deepseek_moe(architecture)) HP_TRY_VOID(read_deepseek(set, keys, c));
  HP_TRY(c.rope, rope_of(set, keys, architecture, c.head_dim));
  const auto token = [&file](std::string_view key) -> std::optional<TokenId> {
    const auto v = file.get_int(key);
    return v && std::in_range<TokenId>(*v) ? std::optional(static_cast<TokenId>(*v)) : std::nullopt;
  };
  c.bos = token("tokenizer.ggml.bos_token_id");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"})
    if (const auto id = token(key)) c.eos.push_back(*id);
  if (Status valid = validate(c); !valid) return fail(std::move(valid.error()).with_context(file.name()));
  return c;
}

}  // namespace hp
