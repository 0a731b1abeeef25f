#include "planner/model_costs.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/config.h"
#include "base/toml.h"

namespace hp::planner {
namespace data {
extern const std::string_view models_toml;
}
namespace {

// Bytes per parameter: blocks of the format with their scales; k_m mixes 4- and 6-bit rows. Formats that keep the
// output head wider say so.
constexpr std::array<WeightFormat, 9> kFormats = {{
    {"bf16", 2, 2, WeightFormat::Rate::bf16},
    {"fp8", 1.0 + 4.0 / (128 * 128), 2, WeightFormat::Rate::fp8},
    {"int8", 1.0 + 2.0 / 128, 2, WeightFormat::Rate::int8},
    {"int4", 0.5 + 2.0 / 64, 2, WeightFormat::Rate::bf16},
    {"q8_0", 34.0 / 32, 34.0 / 32, WeightFormat::Rate::int8},
    {"q6_k", 210.0 / 256, 210.0 / 256, WeightFormat::Rate::int8},
    {"q4_k_m", 0.6035, 210.0 / 256, WeightFormat::Rate::int8},
    {"q4_1", 20.0 / 32, 210.0 / 256, WeightFormat::Rate::int8},
    {"q4_0", 18.0 / 32, 210.0 / 256, WeightFormat::Rate::int8},
}};

struct ShapeKey {
  std::string_view name;
  std::int32_t ModelConfig::*plain = nullptr;
  std::int32_t MlaConfig::*mla = nullptr;
  std::int32_t MoeConfig::*moe = nullptr;
};
constexpr std::array<ShapeKey, 18> kShape = {{
    {"layers", &ModelConfig::layers},
    {"hidden", &ModelConfig::hidden},
    {"ffn", &ModelConfig::ffn},
    {"vocab", &ModelConfig::vocab},
    {"context", &ModelConfig::context},
    {"heads", &ModelConfig::heads},
    {"kv_heads", &ModelConfig::kv_heads},
    {"head_dim", &ModelConfig::head_dim},
    {"q_lora_rank", nullptr, &MlaConfig::q_lora_rank},
    {"kv_lora_rank", nullptr, &MlaConfig::kv_lora_rank},
    {"qk_nope_dim", nullptr, &MlaConfig::qk_nope_dim},
    {"qk_rope_dim", nullptr, &MlaConfig::qk_rope_dim},
    {"v_dim", nullptr, &MlaConfig::v_dim},
    {"experts", nullptr, nullptr, &MoeConfig::experts},
    {"shared_experts", nullptr, nullptr, &MoeConfig::shared_experts},
    {"experts_per_token", nullptr, nullptr, &MoeConfig::experts_per_token},
    {"expert_ffn", nullptr, nullptr, &MoeConfig::expert_ffn},
    {"first_dense_layers", nullptr, nullptr, &MoeConfig::first_dense_layers},
}};

ModelConfig config_of(const JsonValue& entry) {
  ModelConfig config;
  for (const ShapeKey& key : kShape) {
    const JsonValue* value = entry.find(key.name);
    if (value == nullptr) continue;
    const auto number = static_cast<std::int32_t>(value->as_int().value_or(0));
    if (key.plain != nullptr) config.*key.plain = number;
    if (key.mla != nullptr && !config.mla) config.mla.emplace();
    if (key.mla != nullptr) (*config.mla).*key.mla = number;
    if (key.moe != nullptr && !config.moe) config.moe.emplace();
    if (key.moe != nullptr) (*config.moe).*key.moe = number;
  }
  if (const JsonValue* architecture = entry.find("architecture")) {
    const std::string& name = *architecture->as_string();
    for (const Architecture a : {Architecture::llama, Architecture::qwen2, Architecture::qwen3,
                                 Architecture::deepseek_v2, Architecture::deepseek_v3}) {
      if (to_string(a) == name) config.architecture = a;
    }
    config.qkv_bias = config.architecture == Architecture::qwen2;
    config.qk_norm = config.architecture == Architecture::qwen3;
    if (config.moe) config.moe->has_score_bias = config.architecture == Architecture::deepseek_v3;
  }
  if (config.mla) config.kv_heads = config.heads, config.head_dim = config.mla->qk_nope_dim + config.mla->qk_rope_dim;
  config.v_head_dim = config.mla ? config.mla->v_dim : config.head_dim;
  config.rope.dims = config.mla ? config.mla->qk_rope_dim : config.head_dim;
  if (const JsonValue* tied = entry.find("tied_embeddings")) config.tied_embeddings = tied->as_bool().value_or(false);
  return config;
}

const std::vector<CatalogModel>& shipped_models() {
  static const std::vector<CatalogModel> models = [] {
    std::vector<CatalogModel> out;
    const Result<JsonValue> tree = parse_toml(data::models_toml, "models.toml");
    HP_CHECK(tree.has_value(), "{}", tree.error().message);
    const JsonValue::Array& entries = *tree->find("model")->as_array();
    for (const JsonValue& entry : entries) {
      CatalogModel model{.id = *entry.find("id")->as_string(), .config = config_of(entry)};
      if (const JsonValue* same = entry.find("same_as")) {
        const auto like =
            std::find_if(out.begin(), out.end(), [&](const auto& m) { return m.id == *same->as_string(); });
        HP_CHECK(like != out.end(), "models.toml: {} is the same as an unknown model", model.id);
        model.config = like->config;
      }
      model.config.name = model.id;
      out.push_back(std::move(model));
    }
    return out;
  }();
  return models;
}

double attention_params(const ModelConfig& c) {
  const double hidden = c.hidden, heads = c.heads;
  if (!c.mla) return hidden * c.head_dim * (heads + c.kv_heads) + hidden * c.v_head_dim * (heads + c.kv_heads);
  const double query_dim = heads * (c.mla->qk_nope_dim + c.mla->qk_rope_dim);
  const double query = c.mla->q_lora_rank > 0 ? c.mla->q_lora_rank * (hidden + query_dim) : hidden * query_dim;
  const double latent = hidden * (c.mla->kv_lora_rank + c.mla->qk_rope_dim);
  return query + latent + c.mla->kv_lora_rank * heads * (c.mla->qk_nope_dim + c.mla->v_dim) +
         heads * c.mla->v_dim * hidden;
}

}  // namespace

const WeightFormat* find_format(std::string_view name) {
  const auto at = std::find_if(kFormats.begin(), kFormats.end(), [&](const WeightFormat& f) { return f.name == name; });
  return at == kFormats.end() ? nullptr : &*at;
}

std::string format_names() {
  std::string out;
  for (const WeightFormat& format : kFormats) out += (out.empty() ? "" : ", ") + std::string(format.name);
  return out;
}

double ModelCosts::total() const {
  return attention + dense_ffn + shared_experts + router + one_expert * experts + head + embedding;
}

double ModelCosts::active() const {
  return attention + dense_ffn + shared_experts + router + one_expert * experts_per_token + head;
}

double ModelCosts::touched_experts(double rows) const {
  if (experts <= 0) return 0;
  return experts * (1 - std::pow(1 - experts_per_token / experts, rows));
}

ModelCosts costs_of(const ModelConfig& config) {
  ModelCosts out{.config = config, .layers = static_cast<double>(config.layers)};
  const double hidden = config.hidden;
  for (std::int32_t layer = 0; layer < config.layers; ++layer)
    out.moe_layers += config.moe && config.is_moe_layer(layer) ? 1 : 0;
  out.attention = out.layers * attention_params(config);
  out.dense_ffn = (out.layers - out.moe_layers) * 3 * hidden * config.ffn;
  if (config.moe) {
    out.experts = config.moe->experts;
    out.experts_per_token = config.moe->experts_per_token;
    out.one_expert = out.moe_layers * 3 * hidden * config.moe->expert_ffn;
    out.shared_experts = out.one_expert * config.moe->shared_experts;
    out.router = out.moe_layers * hidden * out.experts;
  }
  out.head = hidden * config.vocab;
  out.embedding = config.tied_embeddings ? 0 : out.head;
  // MLA decodes on the latent: every head's dot product and sum run over it.
  const double per_head = config.mla ? 2.0 * config.mla->kv_lora_rank + config.mla->qk_rope_dim
                                     : static_cast<double>(config.head_dim + config.v_head_dim);
  out.attention_flops_per_context = out.layers * 2 * config.heads * per_head;
  return out;
}

Result<ModelConfig> catalog_model(std::string_view id) {
  std::vector<std::string_view> ids;
  for (const CatalogModel& model : shipped_models()) {
    if (model.id == id) return model.config;
    ids.push_back(model.id);
  }
  const std::string_view near = nearest_name(id, ids);
  Error error{
      .code = ErrorCode::not_found,
      .message = fmt::format("model: '{}' is not in the catalog{}; give one of its names or a path to a config.json",
                             id, near.empty() ? "" : fmt::format("; did you mean '{}'?", near)),
      .where = "model"};
  return fail(std::move(error));
}

std::vector<std::string> catalog_model_ids() {
  std::vector<std::string> out;
  for (const CatalogModel& model : shipped_models()) out.push_back(model.id);
  return out;
}

}  // namespace hp::planner
