#include "model/checkpoint.h"

#include <map>
#include <utility>

#include "base/hash.h"
#include "model/gguf_config.h"
#include "model/gguf_file.h"

namespace hp {

struct Checkpoint::State {
  ModelConfig config;
  GgufFile gguf;
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

std::string fingerprint_of(const GgufFile& file) {
  Hash128 hash;
  for (const GgufTensor& t : file.tensors()) {
    const std::string head = fmt::format("{} {} {}", t.name, traits(t.view.dtype).name, t.view.shape.to_string());
    hash = hash128_chain(hash, std::as_bytes(std::span(head)));
    hash = hash128_chain(hash, {t.view.data, std::min(t.view.bytes(), kFingerprintSample)});
  }
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

}  // namespace

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path))
    return fail(ErrorCode::unsupported, "'{}' is a folder; give the .gguf file (Hugging Face folders are not read yet)",
                path.string());
  auto state = std::make_unique<State>();
  HP_TRY(state->gguf, GgufFile::open(path));
  HP_TRY(state->config, config_from_gguf(state->gguf));
  for (const GgufTensor& t : state->gguf.tensors())
    state->tensors.push_back({.name = t.name, .view = t.view, .source = path.string()});
  for (const NamedTensor& t : state->tensors) state->index.emplace(t.name, &t);
  for (const Expected& e : expected_tensors(state->config)) {
    const auto it = state->index.find(e.name);
    if (it == state->index.end())
      return fail(ErrorCode::corrupt_data, "'{}' has no tensor '{}', expected {}", path.string(), e.name,
                  e.shape.to_string());
    if (it->second->view.shape != e.shape)
      return fail(ErrorCode::corrupt_data, "'{}': tensor '{}' is {}, expected {}", path.string(), e.name,
                  it->second->view.shape.to_string(), e.shape.to_string());
  }
  state->fingerprint = fingerprint_of(state->gguf);
  return Checkpoint(std::move(state));
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
  state_->gguf.file().release({tensor.view.data, tensor.view.bytes()});
}

const GgufFile* Checkpoint::gguf() const {
  return &state_->gguf;
}
const std::filesystem::path& Checkpoint::folder() const {
  return state_->folder;
}
const std::string& Checkpoint::fingerprint() const {
  return state_->fingerprint;
}

}  // namespace hp
