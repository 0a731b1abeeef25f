#include "arch/cpu/weights.h"

#include <string>

namespace hp {
namespace {

constexpr std::size_t kAlignment = 64;

std::int32_t panels_of(std::int32_t n) {
  return (n + kernels::kPanelColumns - 1) / kernels::kPanelColumns;
}

struct PackJob {
  const NamedTensor* tensor;
  kernels::PackedMatrix* target;
  std::int32_t n, k;
  std::size_t offset;
};

// Two passes: add() lays out the one buffer, pack_all() fills it. Targets must not move in between.
class Packing {
 public:
  explicit Packing(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  Status add(const std::string& name, std::int32_t n, std::int32_t k, kernels::PackedMatrix& target) {
    HP_TRY(const NamedTensor* tensor, find(name, Shape{n, k}));
    auto bytes = kernels::packed_bytes(tensor->view.dtype, n, k);
    if (!bytes) return fail(std::move(bytes).error().with_context(name + " in " + tensor->source));
    jobs_.push_back({tensor, &target, n, k, total_});
    total_ += (*bytes + kAlignment - 1) / kAlignment * kAlignment;
    return {};
  }

  Status row(const std::string& name, std::int32_t count, FloatRow& out) const {
    HP_TRY(const NamedTensor* tensor, find(name, Shape{count}));
    out.resize(static_cast<std::size_t>(count));
    kernels::dequantize(tensor->view.dtype, tensor->view.data, out.size(), out.data());
    return {};
  }

  Result<Buffer> pack_all(ParallelTeam& team) const {
    HP_TRY(Buffer buffer, Buffer::allocate(total_));
    for (const PackJob& job : jobs_) {
      std::byte* const out = buffer.data() + job.offset;
      team.run([&](int member) {
        const Range r = split_range(static_cast<std::size_t>(panels_of(job.n)), member, team.size());
        kernels::pack_panels(job.tensor->view, static_cast<std::int32_t>(r.begin), static_cast<std::int32_t>(r.end),
                             out);
      });
      *job.target = kernels::packed_view(job.tensor->view.dtype, job.n, job.k, out);
      checkpoint_.release(*job.tensor);
    }
    return buffer;
  }

 private:
  Result<const NamedTensor*> find(const std::string& name, const Shape& shape) const {
    const NamedTensor* tensor = checkpoint_.find(name);
    if (tensor == nullptr) {
      return fail(ErrorCode::corrupt_data, "the checkpoint has no tensor '{}': expected one of shape {}", name,
                  shape.to_string());
    }
    if (tensor->view.shape != shape) {
      return fail(ErrorCode::corrupt_data, "tensor '{}' in {}: expected shape {}, found {}", name, tensor->source,
                  shape.to_string(), tensor->view.shape.to_string());
    }
    return tensor;
  }

  const Checkpoint& checkpoint_;
  std::vector<PackJob> jobs_;
  std::size_t total_ = 0;
};

Status add_layer(const ModelConfig& c, int index, Packing& packing, LayerWeights& layer) {
  const std::string p = "blk." + std::to_string(index) + ".";
  const std::int32_t q_out = c.heads * c.head_dim, k_out = c.kv_heads * c.head_dim, v_out = c.kv_heads * c.v_head_dim;
  HP_TRY_VOID(packing.row(p + "attn_norm.weight", c.hidden, layer.attn_norm));
  HP_TRY_VOID(packing.row(p + "ffn_norm.weight", c.hidden, layer.ffn_norm));
  if (c.qk_norm) {
    HP_TRY_VOID(packing.row(p + "attn_q_norm.weight", c.head_dim, layer.gqa.q_norm));
    HP_TRY_VOID(packing.row(p + "attn_k_norm.weight", c.head_dim, layer.gqa.k_norm));
  }
  if (c.qkv_bias) {
    HP_TRY_VOID(packing.row(p + "attn_q.bias", q_out, layer.gqa.q_bias));
    HP_TRY_VOID(packing.row(p + "attn_k.bias", k_out, layer.gqa.k_bias));
    HP_TRY_VOID(packing.row(p + "attn_v.bias", v_out, layer.gqa.v_bias));
  }
  HP_TRY_VOID(packing.add(p + "attn_q.weight", q_out, c.hidden, layer.gqa.q));
  HP_TRY_VOID(packing.add(p + "attn_k.weight", k_out, c.hidden, layer.gqa.k));
  HP_TRY_VOID(packing.add(p + "attn_v.weight", v_out, c.hidden, layer.gqa.v));
  HP_TRY_VOID(packing.add(p + "attn_output.weight", c.hidden, c.heads * c.v_head_dim, layer.gqa.o));
  HP_TRY_VOID(packing.add(p + "ffn_gate.weight", c.ffn, c.hidden, layer.ffn.gate));
  HP_TRY_VOID(packing.add(p + "ffn_up.weight", c.ffn, c.hidden, layer.ffn.up));
  HP_TRY_VOID(packing.add(p + "ffn_down.weight", c.hidden, c.ffn, layer.ffn.down));
  return {};
}

}  // namespace

Result<ModelWeights> load_weights(const Checkpoint& checkpoint, ParallelTeam& team) {
  const ModelConfig& c = checkpoint.config();
  ModelWeights weights;
  weights.layers.resize(static_cast<std::size_t>(c.layers));
  Packing packing(checkpoint);
  HP_TRY_VOID(packing.add("token_embd.weight", c.vocab, c.hidden, weights.embedding));
  const bool own_head = checkpoint.find("output.weight") != nullptr;
  if (!own_head && !c.tied_embeddings) {
    return fail(
        ErrorCode::corrupt_data,
        "the checkpoint has no tensor 'output.weight', and its embeddings are not tied: the file is incomplete");
  }
  if (own_head) {
    HP_TRY_VOID(packing.add("output.weight", c.vocab, c.hidden, weights.head));
  }
  HP_TRY_VOID(packing.row("output_norm.weight", c.hidden, weights.output_norm));
  for (int i = 0; i < c.layers; ++i) {
    HP_TRY_VOID(add_layer(c, i, packing, weights.layers[static_cast<std::size_t>(i)]));
  }
  HP_TRY(weights.packed, packing.pack_all(team));
  if (!own_head) weights.head = weights.embedding;
  return weights;
}

}  // namespace hp
