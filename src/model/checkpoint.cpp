#include "model/checkpoint.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/hash.h"
#include "model/gguf_config.h"
#include "model/gguf_file.h"
#include "model/hf_config.h"
#include "model/limits.h"
#include "model/safetensors_file.h"
#include "model/tensor_names.h"

namespace hp {

struct Checkpoint::State {
  ModelConfig config;
  std::optional<GgufFile> gguf;  // one of the two holds the bytes
  std::vector<SafetensorsFile> shards;
  std::vector<NamedTensor> tensors;
  std::map<std::string_view, const NamedTensor*> index;
  std::filesystem::path folder;  // empty: the tokenizer is in the GGUF metadata
  std::string fingerprint;
};

namespace {

constexpr std::size_t kFingerprintSample = 4096;  // bytes of each tensor that enter the fingerprint

struct Expected {
  std::string name;
  Shape shape;
};

/// Every tensor that the forward pass of a dense decoder reads.
std::vector<Expected> expected_tensors(const ModelConfig& c) {
  const std::int64_t q = std::int64_t{c.heads} * c.head_dim, k = std::int64_t{c.kv_heads} * c.head_dim;
  const std::int64_t v = std::int64_t{c.kv_heads} * c.v_head_dim, o = std::int64_t{c.heads} * c.v_head_dim;
  std::vector<Expected> out = {{"token_embd.weight", {c.vocab, c.hidden}}, {"output_norm.weight", {c.hidden}}};
  if (!c.tied_embeddings) out.push_back({"output.weight", {c.vocab, c.hidden}});
  for (std::int32_t layer = 0; layer < c.layers; ++layer) {
    const auto add = [&out, layer](std::string_view name, Shape shape) {
      out.push_back({fmt::format("blk.{}.{}", layer, name), shape});
    };
    add("attn_norm.weight", {c.hidden});
    add("attn_q.weight", {q, c.hidden});
    add("attn_k.weight", {k, c.hidden});
    add("attn_v.weight", {v, c.hidden});
    add("attn_output.weight", {c.hidden, o});
    add("ffn_norm.weight", {c.hidden});
    add("ffn_gate.weight", {c.ffn, c.hidden});
    add("ffn_up.weight", {c.ffn, c.hidden});
    add("ffn_down.weight", {c.hidden, c.ffn});
    if (c.qkv_bias) {
      add("attn_q.bias", {q});
      add("attn_k.bias", {k});
      add("attn_v.bias", {v});
    }
    if (c.qk_norm) {
      add("attn_q_norm.weight", {c.head_dim});
      add("attn_k_norm.weight", {c.head_dim});
    }
  }
  return out;
}

/// What changes the result for the same bytes: shapes are in the tensor table already.
std::string describe(const ModelConfig& c) {
  const RopeConfig& r = c.rope;
  std::string out =
      fmt::format("{} {}/{} x {} eps {} rope {} {} {} {} {} {} {} {} {} {} {} {} {}", to_string(c.architecture),
                  c.heads, c.kv_heads, c.head_dim, c.rms_eps, r.theta, r.dims, static_cast<int>(r.layout),
                  static_cast<int>(r.scaling), r.factor, r.original_context, r.low_freq_factor, r.high_freq_factor,
                  r.beta_fast, r.beta_slow, r.attention_factor.value_or(0.0F), r.mscale, r.mscale_all_dim);
  for (const float divisor : r.frequency_divisors) out += fmt::format(" {}", divisor);
  return out;
}

std::string fingerprint_of(const ModelConfig& config, std::span<const NamedTensor> tensors) {
  const std::string description = describe(config);
  Hash128 hash = hash128(std::as_bytes(std::span(description)));
  for (const NamedTensor& t : tensors) {
    const std::string head = fmt::format("{} {} {}", t.name, traits(t.view.dtype).name, t.view.shape.to_string());
    hash = hash128_chain(hash, std::as_bytes(std::span(head)));
    hash = hash128_chain(hash, {t.view.data, std::min(t.view.bytes(), kFingerprintSample)});
  }
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

Status check_shapes(const ModelConfig& config, const std::map<std::string_view, const NamedTensor*>& index,
                    const std::string& path) {
  for (const Expected& e : expected_tensors(config)) {
    const auto it = index.find(e.name);
    if (it == index.end())
      return fail(ErrorCode::corrupt_data, "'{}' has no tensor '{}', expected {}", path, e.name, e.shape.to_string());
    if (it->second->view.shape != e.shape)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' is {}, expected {}", it->second->source, e.name,
                  it->second->view.shape.to_string(), e.shape.to_string());
  }
  return {};
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
  HP_TRY_VOID(check_shapes(state->config, state->index, path.string()));
  state->fingerprint = fingerprint_of(state->config, state->tensors);
  return Checkpoint(std::move(state));
}

Status Checkpoint::load_gguf(const std::filesystem::path& path, State& state) {
  HP_TRY(state.gguf, GgufFile::open(path));
  HP_TRY(state.config, config_from_gguf(*state.gguf));
  for (const GgufTensor& t : state.gguf->tensors())
    state.tensors.push_back({.name = t.name, .view = t.view, .source = path.string()});
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
  HP_TRY(state.shards, open_safetensors_folder(folder));
  for (const SafetensorsFile& shard : state.shards)
    for (const SafetensorsTensor& t : shard.tensors())
      if (auto name = canonical_tensor_name(t.name))
        state.tensors.push_back({.name = std::move(*name), .view = t.view, .source = shard.name()});
  state.folder = folder;
  return {};
}

const ModelConfig& Checkpoint::config() const {
  return state_->config;
}
std::span<const NamedTensor> Checkpoint::tensors() const {
  return state_->tensors;
}

const NamedTensor* Checkpoint::find(std::string_view name) const {
  const auto it = state_->index.find(name);
  return it == state_->index.end() ? nullptr : it->second;
}

void Checkpoint::release(const NamedTensor& tensor) const {
  const std::span<const std::byte> range(tensor.view.data, tensor.view.bytes());
  if (state_->gguf) return state_->gguf->file().release(range);
  for (const SafetensorsFile& shard : state_->shards)
    if (shard.name() == tensor.source) shard.file().release(range);
}

const GgufFile* Checkpoint::gguf() const {
  return state_->gguf ? &*state_->gguf : nullptr;
}
const std::filesystem::path& Checkpoint::folder() const {
  return state_->folder;
}
const std::string& Checkpoint::fingerprint() const {
  return state_->fingerprint;
}

}  // namespace hp
