#include "model/gguf_config.h"

#include <cmath>
#include <utility>

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

Result<Architecture> architecture_of(const GgufFile& file) {
  const std::string* name = file.get_string("general.architecture");
  if (name == nullptr) return fail(ErrorCode::corrupt_data, "'{}' has no general.architecture", file.name());
  if (*name == "llama") return Architecture::llama;
  if (*name == "qwen2") return Architecture::qwen2;
  if (*name == "qwen3") return Architecture::qwen3;
  return fail(ErrorCode::unsupported, "'{}' is of architecture '{}'; supported: llama, qwen2, qwen3", file.name(),
              *name);
}

Result<RopeConfig> rope_of(const GgufFile& file, const KeyReader& keys, Architecture architecture,
                           std::int32_t head_dim) {
  RopeConfig rope;
  rope.theta = keys.float_or("rope.freq_base", 10000.0F);
  rope.dims = keys.int_or("rope.dimension_count", head_dim);
  // Converters permute the query and key rows of llama so that pairs lie side by side; the Qwen family keeps halves.
  rope.layout = architecture == Architecture::llama ? RopeLayout::interleaved : RopeLayout::halves;
  rope.factor = keys.float_or("rope.scaling.factor", 1.0F);
  rope.original_context = keys.int_or("rope.scaling.original_context_length", 0);
  const std::string* kind = keys.string("rope.scaling.type");
  if (kind == nullptr || *kind == "none") {
    rope.factor = 1.0F;
  } else if (*kind == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
  } else if (*kind == "yarn") {
    rope.scaling = RopeConfig::Scaling::yarn;
    // In GGUF the factor multiplies YaRN's own; ours replaces it.
    if (keys.has("rope.scaling.attn_factor")) {
      const float own = rope.factor > 1.0F ? 0.1F * std::log(rope.factor) + 1.0F : 1.0F;
      rope.attention_factor = keys.float_or("rope.scaling.attn_factor", 1.0F) * own;
    }
  } else {
    return fail(ErrorCode::unsupported, "'{}': rope.scaling.type is '{}'; supported: none, linear, yarn", file.name(),
                *kind);
  }
  if (const GgufTensor* t = file.find("rope_freqs.weight")) {
    if (t->view.dtype != DType::f32 || t->view.shape.elements() != rope.dims / 2)
      return fail(ErrorCode::corrupt_data, "'{}': rope_freqs.weight is {} {}, expected f32 [{}]", file.name(),
                  traits(t->view.dtype).name, t->view.shape.to_string(), rope.dims / 2);
    const auto* values = reinterpret_cast<const float*>(t->view.data);
    rope.frequency_divisors.assign(values, values + t->view.shape.elements());
  }
  return rope;
}

}  // namespace

Result<ModelConfig> config_from_gguf(const GgufFile& file) {
  HP_TRY(const Architecture architecture, architecture_of(file));
  KeyReader keys(file, std::string(to_string(architecture)));
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
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->view.shape.rank() != 2)
    return fail(ErrorCode::corrupt_data, "'{}' has no tensor token_embd.weight of two dimensions", file.name());
  if (!std::in_range<std::int32_t>(embedding->view.shape[0]))
    return fail(ErrorCode::corrupt_data, "'{}': token_embd.weight has {} rows", file.name(), embedding->view.shape[0]);
  c.vocab = static_cast<std::int32_t>(embedding->view.shape[0]);
  c.tied_embeddings = file.find("output.weight") == nullptr;
  c.qkv_bias = file.find("blk.0.attn_q.bias") != nullptr;
  c.qk_norm = file.find("blk.0.attn_q_norm.weight") != nullptr;
  HP_TRY(c.rope, rope_of(file, keys, architecture, c.head_dim));
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
