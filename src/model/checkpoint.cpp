#include "model/checkpoint.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/hash.h"
#include "model/compressed_tensors.h"
#include "model/gguf_config.h"
#include "model/gguf_set.h"
#include "model/hf_config.h"
#include "model/limits.h"
#include "model/safetensors_file.h"
#include "model/tensor_names.h"

namespace hp {

struct Checkpoint::State {
  ModelConfig config;
  std::optional<GgufSet> gguf;  // one of the two holds the bytes
  std::vector<SafetensorsFile> shards;
  std::vector<NamedTensor> tensors;
  std::map<std::string_view, const NamedTensor*> index;
  std::filesystem::path folder;  // empty: the tokenizer is in the GGUF metadata
  std::string fingerprint;
};

namespace {

constexpr std::size_t kFingerprintSample = 4096;  // bytes of each tensor that enter the fingerprint

/// What changes the result for the same bytes: shapes are in the tensor table already.
std::string describe(const ModelConfig& c) {
  const RopeConfig& r = c.rope;
  std::string out =
      fmt::format("{} {}/{} x {} eps {} rope {} {} {} {} {} {} {} {} {} {} {} {} {}", to_string(c.architecture),
                  c.heads, c.kv_heads, c.head_dim, c.rms_eps, r.theta, r.dims, static_cast<int>(r.layout),
                  static_cast<int>(r.scaling), r.factor, r.original_context, r.low_freq_factor, r.high_freq_factor,
                  r.beta_fast, r.beta_slow, r.attention_factor.value_or(0.0F), r.mscale, r.mscale_all_dim);
  if (c.mla.has_value())
    out += fmt::format(" mla {} {} {} {} {}", c.mla->q_lora_rank, c.mla->kv_lora_rank, c.mla->qk_nope_dim,
                       c.mla->qk_rope_dim, c.mla->v_dim);
  if (c.moe.has_value())
    out += fmt::format(" moe {} {} {} {} {} {} {} {} {} {} {}", c.moe->experts, c.moe->experts_per_token,
                       c.moe->first_dense_layers, c.moe->layer_step, c.moe->groups, c.moe->groups_per_token,
                       static_cast<int>(c.moe->scoring), static_cast<int>(c.moe->group_score), c.moe->normalize_weights,
                       c.moe->has_score_bias, c.moe->weight_scale);
  for (const float divisor : r.frequency_divisors) out += fmt::format(" {}", divisor);
  return out;
}

std::string fingerprint_of(const ModelConfig& config, std::span<const NamedTensor> tensors) {
  const std::string description = describe(config);
  Hash128 hash = hash128(std::as_bytes(std::span(description)));
  for (const NamedTensor& t : tensors) {
    const std::string head = fmt::format("{} {} {}", t.name, traits(t.view.dtype).name, t.view.shape.to_string());
    hash = hash128_chain(hash, std::as_bytes(std::span(head)));
    if (is_compressed(t)) continue;  // its parts are tensors of their own
    hash = hash128_chain(hash, {t.view.data, std::min(t.view.bytes(), kFingerprintSample)});
  }
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

using Index = std::map<std::string_view, const NamedTensor*>;

TensorForms forms_of(const ModelConfig& c, const Index& index) {
  TensorForms forms;
  forms.split_kv_b = index.contains("blk.0.attn_k_b.weight");
  if (c.moe.has_value())
    for (std::int32_t l = 0; l < c.layers && !forms.merged_experts; ++l)
      forms.merged_experts = c.is_moe_layer(l) && index.contains(fmt::format("blk.{}.ffn_gate_exps.weight", l));
  return forms;
}

/// fp8 comes with one scale per block; anything else comes without.
Status check_scales(const ModelConfig& c, const Index& index, const NamedTensor& t, const std::string& config_name) {
  if (t.view.dtype != DType::f8_e4m3) return {};
  const auto it = index.find(t.name + "_scale_inv");
  if (it == index.end())
    return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' is f8_e4m3 and has no '{}_scale_inv'", t.source, t.name,
                t.name);
  if (c.fp8_block_rows == 0)
    return fail(ErrorCode::corrupt_data,
                "'{}' has no quantization_config with a weight_block_size, but tensor '{}' in '{}' is f8_e4m3",
                config_name, t.name, t.source);
  const NamedTensor& scale = *it->second;
  const Shape& shape = t.view.shape;
  const Shape expected = shape.rank() != 2 ? Shape{}
                                           : Shape{(shape[0] + c.fp8_block_rows - 1) / c.fp8_block_rows,
                                                   (shape[1] + c.fp8_block_columns - 1) / c.fp8_block_columns};
  if (scale.view.shape != expected)
    return fail(ErrorCode::corrupt_data, "'{}': '{}' is {}, expected {} (weight_block_size [{}, {}] of '{}')",
                scale.source, scale.name, scale.view.shape.to_string(), expected.to_string(), c.fp8_block_rows,
                c.fp8_block_columns, config_name);
  const DType type = scale.view.dtype;
  if (type != DType::f32 && type != DType::bf16 && type != DType::f8_e8m0)
    return fail(ErrorCode::corrupt_data, "'{}': '{}' is of type {}, expected f32, bf16 or f8_e8m0", scale.source,
                scale.name, traits(type).name);
  return {};
}

/// Experts of one matrix are of one type: the layer's rows are prepared once for all of them.
Status check_expert_types(const ModelConfig& c, const Index& index) {
  if (!c.moe.has_value()) return {};
  for (std::int32_t l = 0; l < c.layers + c.mtp_layers; ++l) {
    for (const char* part : {"gate", "up", "down"}) {
      const std::string merged = fmt::format("blk.{}.ffn_{}_exps.weight", l, part);
      const auto first = index.find(expert_tensor_name(merged, 0));
      if (first == index.end()) continue;
      for (std::int32_t e = 1; e < c.moe->experts; ++e) {
        const NamedTensor& t = *index.at(expert_tensor_name(merged, e));
        if (t.view.dtype != first->second->view.dtype)
          return fail(ErrorCode::unsupported, "'{}': tensor '{}' is of type {}, but '{}' is {}: expected one type",
                      t.source, t.name, traits(t.view.dtype).name, first->second->name,
                      traits(first->second->view.dtype).name);
      }
      if (const auto more = index.find(expert_tensor_name(merged, c.moe->experts)); more != index.end())
        return fail(ErrorCode::corrupt_data, "'{}' has tensor '{}', but the configuration's n_routed_experts is {}",
                    more->second->source, more->first, c.moe->experts);
    }
  }
  return {};
}

Status check_tensors(const ModelConfig& config, const Index& index, const std::string& config_name) {
  for (const TensorSpec& e : tensor_table(config, forms_of(config, index))) {
    const auto it = index.find(e.name);
    if (it == index.end())
      return fail(ErrorCode::corrupt_data, "'{}' has no tensor '{}', expected {} ({})", config_name, e.name,
                  e.shape.to_string(), e.formula);
    if (it->second->view.shape != e.shape)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' is {}, expected {} ({} of '{}')", it->second->source,
                  e.name, it->second->view.shape.to_string(), e.shape.to_string(), e.formula, config_name);
    HP_TRY_VOID(check_scales(config, index, *it->second, config_name));
  }
  return check_expert_types(config, index);
}

}  // namespace

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& path) {
  auto state = std::make_unique<State>();
  std::error_code error;
  HP_TRY_VOID(std::filesystem::is_directory(path, error) ? load_folder(path, *state) : load_gguf(path, *state));
  for (const NamedTensor& t : state->tensors)
    if (!state->index.emplace(t.name, &t).second)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' stands twice", t.source, t.name);
  // Published conversions drop the prediction layers and leave their count in the configuration.
  ModelConfig& config = state->config;
  if (config.mtp_layers > 0 && !state->index.contains(fmt::format("blk.{}.nextn.eh_proj.weight", config.layers)))
    config.mtp_layers = 0;
  HP_TRY_VOID(check_tensors(config, state->index, path.string()));
  state->fingerprint = fingerprint_of(state->config, state->tensors);
  return Checkpoint(std::move(state));
}

Status Checkpoint::load_gguf(const std::filesystem::path& path, State& state) {
  HP_TRY(state.gguf, GgufSet::open(path));
  HP_TRY(state.config, config_from_gguf(*state.gguf));
  for (const GgufFile& file : state.gguf->files())
    for (const GgufTensor& t : file.tensors())
      state.tensors.push_back({.name = t.name, .view = t.view, .source = file.name()});
  return {};
}

Status Checkpoint::load_folder(const std::filesystem::path& folder, State& state) {
  const std::filesystem::path config_path = folder / "config.json";
  HP_TRY(const MappedFile config, MappedFile::open(config_path));
  const std::span<const std::byte> text = config.bytes();
  if (text.size() > limits::kMaxConfigBytes)
    return fail(ErrorCode::corrupt_data, "'{}' has {} bytes, {} are allowed", config_path.string(), text.size(),
                limits::kMaxConfigBytes);
  HP_TRY(state.config, config_from_hf({reinterpret_cast<const char*>(text.data()), text.size()}, config_path.string()));
  const std::filesystem::path generation_path = folder / "generation_config.json";
  std::error_code error;
  if (std::filesystem::exists(generation_path, error)) {
    HP_TRY(const MappedFile generation, MappedFile::open(generation_path));
    const std::span<const std::byte> bytes = generation.bytes();
    if (bytes.size() > limits::kMaxConfigBytes)
      return fail(ErrorCode::corrupt_data, "'{}' has {} bytes, {} are allowed", generation_path.string(), bytes.size(),
                  limits::kMaxConfigBytes);
    HP_TRY_VOID(read_generation_config({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                                       generation_path.string(), state.config));
  }
  HP_TRY(state.shards, open_safetensors_folder(folder));
  for (const SafetensorsFile& shard : state.shards)
    for (const SafetensorsTensor& t : shard.tensors())
      if (auto name = canonical_tensor_name(t.name))
        state.tensors.push_back({.name = std::move(*name), .view = t.view, .source = shard.name()});
  HP_TRY_VOID(resolve_compressed_tensors(state.tensors));
  state.folder = folder;
  return {};
}

const ModelConfig& Checkpoint::config() const {
  return state_->config;
}
std::span<const NamedTensor> Checkpoint::tensors() const {
  return state_->tensors;
}

TensorForms Checkpoint::forms() const {
  return forms_of(state_->config, state_->index);
}

const NamedTensor* Checkpoint::find(std::string_view name) const {
  const auto it = state_->index.find(name);
  return it == state_->index.end() ? nullptr : it->second;
}

void Checkpoint::release(const NamedTensor& tensor) const {
  if (is_compressed(tensor)) {
    if (const NamedTensor* values = find(tensor.name + "_packed")) release(*values);
    return;
  }
  const std::span<const std::byte> range(tensor.view.data, tensor.view.bytes());
  if (state_->gguf)
    for (const GgufFile& file : state_->gguf->files())
      if (file.name() == tensor.source) file.file().release(range);
  for (const SafetensorsFile& shard : state_->shards)
    if (shard.name() == tensor.source) shard.file().release(range);
}

const GgufFile* Checkpoint::gguf() const {
  return state_->gguf ? &state_->gguf->first() : nullptr;
}
const std::filesystem::path& Checkpoint::folder() const {
  return state_->folder;
}
const std::string& Checkpoint::fingerprint() const {
  return state_->fingerprint;
}

}  // namespace hp
