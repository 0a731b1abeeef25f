#include "model/hf_config.h"

#include <cmath>
#include <utility>

#include "base/json.h"

namespace hp {
namespace {

/// A member that is present and not null.
const JsonValue* member(const JsonValue& object, std::string_view key) {
  const JsonValue* v = object.find(key);
  return v == nullptr || v->is_null() ? nullptr : v;
}

/// Typed members of one JSON object; remembers the first one that is missing or of another type.
class Fields {
 public:
  explicit Fields(const JsonValue& object) : object_(object) {}

  std::int32_t integer(std::string_view key) {
    if (member(object_, key) == nullptr) note(key, "a number", "nothing");
    return integer_or(key, 1);
  }
  std::int32_t integer_or(std::string_view key, std::int32_t fallback) {
    const JsonValue* v = member(object_, key);
    if (v == nullptr) return fallback;
    const auto n = v->as_int();
    if (n && std::in_range<std::int32_t>(*n)) return static_cast<std::int32_t>(*n);
    note(key, "a whole number of 32 bits", v->dump());
    return fallback;
  }
  float number_or(std::string_view key, float fallback) {
    const JsonValue* v = member(object_, key);
    if (v == nullptr) return fallback;
    const auto n = v->as_double();
    if (n && std::isfinite(static_cast<float>(*n))) return static_cast<float>(*n);
    note(key, "a number", v->dump());
    return fallback;
  }
  bool flag(std::string_view key) {
    const JsonValue* v = member(object_, key);
    if (v == nullptr) return false;
    if (const auto b = v->as_bool()) return *b;
    note(key, "true or false", v->dump());
    return false;
  }
  std::string text_or(std::string_view key, std::string_view fallback) {
    const JsonValue* v = member(object_, key);
    if (v == nullptr) return std::string(fallback);
    if (const std::string* s = v->as_string()) return *s;
    note(key, "a string", v->dump());
    return std::string(fallback);
  }
  [[nodiscard]] bool has(std::string_view key) const { return member(object_, key) != nullptr; }
  [[nodiscard]] Status status() const {
    return error_.empty() ? Status() : fail(ErrorCode::corrupt_data, "{}", error_);
  }

 private:
  void note(std::string_view key, std::string_view expected, std::string_view found) {
    if (error_.empty()) error_ = fmt::format("'{}' is {}, expected {}", key, found.substr(0, 100), expected);
  }
  const JsonValue& object_;
  std::string error_;
};

Result<Architecture> architecture_of(const JsonValue& json) {
  const JsonValue* list = member(json, "architectures");
  const JsonValue::Array* names = list != nullptr ? list->as_array() : nullptr;
  const std::string* name = names != nullptr && !names->empty() ? names->front().as_string() : nullptr;
  if (name == nullptr) return fail(ErrorCode::corrupt_data, "'architectures' names no architecture");
  if (*name == "LlamaForCausalLM") return Architecture::llama;
  if (*name == "Qwen2ForCausalLM") return Architecture::qwen2;
  if (*name == "Qwen3ForCausalLM") return Architecture::qwen3;
  return fail(ErrorCode::unsupported,
              "architecture '{}'; supported: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM", *name);
}

/// What the file asks for and nobody here computes.
Status refuse_unsupported(Fields& f, Architecture architecture) {
  const std::string activation = f.text_or("hidden_act", "silu");
  if (activation != "silu") return fail(ErrorCode::unsupported, "hidden_act '{}'; supported: silu", activation);
  if (f.flag("use_sliding_window")) return fail(ErrorCode::unsupported, "use_sliding_window is not supported");
  if (f.has("quantization_config"))
    return fail(ErrorCode::unsupported,
                "quantization_config: quantized Hugging Face weights are not supported; use "
                "the bf16 checkpoint or a .gguf file");
  // Qwen2 has its biases without the key; elsewhere the key also means an output bias, which is not read.
  if (architecture != Architecture::qwen2 && f.flag("attention_bias"))
    return fail(ErrorCode::unsupported, "attention_bias is not supported for {}", to_string(architecture));
  if (f.flag("mlp_bias")) return fail(ErrorCode::unsupported, "mlp_bias is not supported");
  return {};
}

Status read_scaling(const JsonValue& object, std::int32_t context, RopeConfig& rope) {
  if (object.as_object() == nullptr)
    return fail(ErrorCode::corrupt_data, "'rope_scaling' is a {}, expected an object", object.type_name());
  Fields f(object);
  const std::string kind = f.text_or("rope_type", f.text_or("type", "default"));
  rope.theta = f.number_or("rope_theta", rope.theta);
  if (kind == "default") return f.status();
  rope.factor = f.number_or("factor", 1.0F);
  rope.original_context = f.integer_or("original_max_position_embeddings", context);
  if (kind == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
  } else if (kind == "llama3") {
    rope.scaling = RopeConfig::Scaling::llama3;
    rope.low_freq_factor = f.number_or("low_freq_factor", rope.low_freq_factor);
    rope.high_freq_factor = f.number_or("high_freq_factor", rope.high_freq_factor);
    if (!(rope.low_freq_factor > 0.0F && rope.high_freq_factor > rope.low_freq_factor))
      return fail(ErrorCode::corrupt_data, "low_freq_factor {} must be positive and below high_freq_factor {}",
                  rope.low_freq_factor, rope.high_freq_factor);
  } else if (kind == "yarn") {
    rope.scaling = RopeConfig::Scaling::yarn;
    rope.beta_fast = f.number_or("beta_fast", rope.beta_fast);
    rope.beta_slow = f.number_or("beta_slow", rope.beta_slow);
    rope.mscale = f.number_or("mscale", 0.0F);
    rope.mscale_all_dim = f.number_or("mscale_all_dim", 0.0F);
    // attention_factor replaces YaRN's own factor; attn_factor (R1-0528-Qwen3-8B: 0.878 for x4) multiplies it.
    if (f.has("attention_factor")) {
      rope.attention_factor = f.number_or("attention_factor", 1.0F);
    } else if (f.has("attn_factor")) {
      const float own = rope.factor > 1.0F ? 0.1F * std::log(rope.factor) + 1.0F : 1.0F;
      rope.attention_factor = f.number_or("attn_factor", 1.0F) * own;
    }
  } else {
    return fail(ErrorCode::unsupported, "rope_scaling type '{}'; supported: linear, llama3, yarn", kind);
  }
  if (rope.original_context < 1)
    return fail(ErrorCode::corrupt_data, "original_max_position_embeddings is {}", rope.original_context);
  return f.status();
}

Status read_eos(const JsonValue& json, ModelConfig& c) {
  const JsonValue* eos = member(json, "eos_token_id");
  if (eos == nullptr) return {};
  const JsonValue::Array single = {*eos};
  for (const JsonValue& v : eos->as_array() != nullptr ? *eos->as_array() : single) {
    const auto id = v.as_int();
    if (!id || !std::in_range<TokenId>(*id))
      return fail(ErrorCode::corrupt_data, "'eos_token_id' is {}, expected token ids", eos->dump());
    c.eos.push_back(static_cast<TokenId>(*id));
  }
  return {};
}

Status read_config(const JsonValue& json, ModelConfig& c) {
  HP_TRY(c.architecture, architecture_of(json));
  Fields f(json);
  HP_TRY_VOID(refuse_unsupported(f, c.architecture));
  c.name = f.text_or("_name_or_path", "");
  c.layers = f.integer("num_hidden_layers");
  c.hidden = f.integer("hidden_size");
  c.ffn = f.integer("intermediate_size");
  c.vocab = f.integer("vocab_size");
  c.context = f.integer("max_position_embeddings");
  c.heads = f.integer("num_attention_heads");
  c.kv_heads = f.integer_or("num_key_value_heads", c.heads);
  HP_TRY_VOID(f.status());
  if (c.heads < 1) return fail(ErrorCode::corrupt_data, "'num_attention_heads' is {}", c.heads);
  c.head_dim = f.integer_or("head_dim", c.architecture == Architecture::qwen3 ? 128 : c.hidden / c.heads);
  c.v_head_dim = c.head_dim;
  c.rms_eps = f.number_or("rms_norm_eps", 1e-6F);
  c.tied_embeddings = f.flag("tie_word_embeddings");
  c.qkv_bias = c.architecture == Architecture::qwen2;
  c.qk_norm = c.architecture == Architecture::qwen3;
  c.rope.layout = RopeLayout::halves;
  c.rope.dims = c.head_dim;
  c.rope.theta = f.number_or("rope_theta", 10000.0F);
  if (f.number_or("partial_rotary_factor", 1.0F) != 1.0F)
    return fail(ErrorCode::unsupported, "partial_rotary_factor other than 1 is not supported");
  // "rope_parameters" is the newer name and holds rope_theta too.
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const JsonValue* scaling = member(json, key)) HP_TRY_VOID(read_scaling(*scaling, c.context, c.rope));
  if (f.has("bos_token_id")) c.bos = f.integer("bos_token_id");
  HP_TRY_VOID(read_eos(json, c));
  HP_TRY_VOID(f.status());
  return validate(c);
}

}  // namespace

Result<ModelConfig> config_from_hf(std::string_view text, std::string_view name) {
  auto json = JsonValue::parse(text);
  if (!json) return fail(std::move(json.error()).with_context(name));
  ModelConfig c;
  if (Status read = read_config(*json, c); !read) return fail(std::move(read.error()).with_context(name));
  return c;
}

}  // namespace hp
