#include "model/hf_config.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/json.h"
#include "model/hf_deepseek.h"
#include "model/json_fields.h"

namespace hp {
namespace {

Result<Architecture> architecture_of(const JsonValue& json) {
  const JsonValue* list = json_member(json, "architectures");
  const JsonValue::Array* names = list != nullptr ? list->as_array() : nullptr;
  const std::string* name = names != nullptr && !names->empty() ? names->front().as_string() : nullptr;
  if (name == nullptr) return fail(ErrorCode::corrupt_data, "'architectures' names no architecture");
  if (*name == "LlamaForCausalLM") return Architecture::llama;
  if (*name == "Qwen2ForCausalLM") return Architecture::qwen2;
  if (*name == "Qwen3ForCausalLM") return Architecture::qwen3;
  if (*name == "DeepseekForCausalLM") return Architecture::deepseek_moe;
  if (*name == "DeepseekV2ForCausalLM") return Architecture::deepseek_v2;
  if (*name == "DeepseekV3ForCausalLM") return Architecture::deepseek_v3;
  return fail(ErrorCode::unsupported,
              "architecture '{}'; supported: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
              "DeepseekForCausalLM, DeepseekV2ForCausalLM, DeepseekV3ForCausalLM",
              *name);
}

/// What the file asks for and nobody here computes.
Status refuse_unsupported(JsonFields& f, Architecture architecture) {
  const std::string activation = f.text_or("hidden_act", "silu");
  if (activation != "silu") return fail(ErrorCode::unsupported, "hidden_act '{}'; supported: silu", activation);
  if (f.flag("use_sliding_window")) return fail(ErrorCode::unsupported, "use_sliding_window is not supported");
  // Qwen2 has its biases without the key; elsewhere the key also means an output bias, which is not read.
  if (architecture != Architecture::qwen2 && f.flag("attention_bias"))
    return fail(ErrorCode::unsupported, "attention_bias is not supported for {}", to_string(architecture));
  if (f.flag("mlp_bias")) return fail(ErrorCode::unsupported, "mlp_bias is not supported");
  return {};
}

Status read_scaling(const JsonValue& object, std::int32_t context, RopeConfig& rope) {
  if (object.as_object() == nullptr)
    return fail(ErrorCode::corrupt_data, "'rope_scaling' is a {}, expected an object", object.type_name());
  JsonFields f(object);
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
    if (!(rope.beta_fast > 0.0F && rope.beta_slow > 0.0F))
      return fail(ErrorCode::corrupt_data, "beta_fast {} and beta_slow {} must be positive", rope.beta_fast,
                  rope.beta_slow);
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

Status read_block(const JsonValue& block, std::string_view key, ModelConfig& c) {
  const JsonValue::Array* sides = block.as_array();
  if (sides == nullptr || sides->size() != 2)
    return fail(ErrorCode::unsupported, "quantization_config: {} is {}, expected two numbers", key, block.dump());
  for (std::size_t i = 0; i < 2; ++i) {
    const auto side = (*sides)[i].as_int();
    if (!side || *side < 1 || *side > 65536)
      return fail(ErrorCode::corrupt_data, "quantization_config: {} is {}", key, block.dump());
    (i == 0 ? c.fp8_block_rows : c.fp8_block_columns) = static_cast<std::int32_t>(*side);
  }
  return {};
}

/// Blocks of fp8 groups; the tensors themselves say the rest.
Status read_compressed_blocks(const JsonValue& object, ModelConfig& c) {
  const JsonValue* groups = json_member(object, "config_groups");
  if (groups == nullptr || groups->as_object() == nullptr) return {};
  for (const auto& [name, group] : *groups->as_object()) {
    const JsonValue* weights = json_member(group, "weights");
    const JsonValue* block = weights == nullptr ? nullptr : json_member(*weights, "block_structure");
    if (block != nullptr) HP_TRY_VOID(read_block(*block, "block_structure", c));
  }
  return {};
}

Status read_quantization(const JsonValue& object, ModelConfig& c) {
  if (object.as_object() == nullptr)
    return fail(ErrorCode::corrupt_data, "'quantization_config' is a {}, expected an object", object.type_name());
  JsonFields f(object);
  const std::string method = f.text_or("quant_method", "");
  HP_TRY_VOID(f.status());
  if (method == "compressed-tensors") return read_compressed_blocks(object, c);
  if (method != "fp8")
    return fail(ErrorCode::unsupported,
                "quantization_config: quant_method '{}'; supported: fp8 (blocks), compressed-tensors; or use the bf16 "
                "checkpoint or a .gguf file",
                method);
  const std::string format = f.text_or("fmt", "e4m3");
  if (format != "e4m3") return fail(ErrorCode::unsupported, "quantization_config: fmt '{}'; supported: e4m3", format);
  const JsonValue* block = json_member(object, "weight_block_size");
  if (block == nullptr)
    return fail(ErrorCode::unsupported, "quantization_config: fp8 without a weight_block_size of two numbers");
  HP_TRY_VOID(read_block(*block, "weight_block_size", c));
  return f.status();
}

Status read_eos(const JsonValue& json, ModelConfig& c) {
  const JsonValue* eos = json_member(json, "eos_token_id");
  if (eos == nullptr) return {};
  const JsonValue::Array single = {*eos};
  for (const JsonValue& v : eos->as_array() != nullptr ? *eos->as_array() : single) {
    const auto id = v.as_int();
    if (!id || !std::in_range<TokenId>(*id))
      return fail(ErrorCode::corrupt_data, "'eos_token_id' is {}, expected token ids", eos->dump());
    const auto token = static_cast<TokenId>(*id);
    if (std::find(c.eos.begin(), c.eos.end(), token) == c.eos.end()) c.eos.push_back(token);
  }
  return {};
}

Status read_config(const JsonValue& json, ModelConfig& c) {
  HP_TRY(c.architecture, architecture_of(json));
  JsonFields f(json);
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
    if (const JsonValue* scaling = json_member(json, key)) HP_TRY_VOID(read_scaling(*scaling, c.context, c.rope));
  if (is_deepseek_moe(c.architecture)) {
    HP_TRY_VOID(read_deepseek(json, c));
  } else if (c.rope.mscale_all_dim == 0.0F) {
    c.rope.mscale = 0.0F;  // elsewhere the two count only together
  }
  if (const JsonValue* q = json_member(json, "quantization_config")) HP_TRY_VOID(read_quantization(*q, c));
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

Status read_generation_config(std::string_view text, std::string_view name, ModelConfig& config) {
  const auto read = [&](const JsonValue& json) -> Status {
    if (json.as_object() == nullptr) return fail(ErrorCode::corrupt_data, "expected an object");
    JsonFields f(json);
    SamplingDefaults& s = config.sampling;
    if (f.has("temperature")) s.temperature = f.number_or("temperature", 1.0F);
    if (f.has("top_p")) s.top_p = f.number_or("top_p", 1.0F);
    if (f.has("top_k")) s.top_k = f.integer_or("top_k", 0);
    if (f.has("repetition_penalty")) s.repetition_penalty = f.number_or("repetition_penalty", 1.0F);
    if (!config.bos && f.has("bos_token_id")) config.bos = f.integer("bos_token_id");
    HP_TRY_VOID(f.status());
    return read_eos(json, config);
  };
  auto json = JsonValue::parse(text);
  if (!json) return fail(std::move(json.error()).with_context(name));
  if (Status done = read(*json); !done) return fail(std::move(done.error()).with_context(name));
  return {};
}

}  // namespace hp
