#include "arch/cpu/engine_memory.h"

#include <algorithm>

#include "arch/cpu/forward.h"
#include "arch/cpu/ranks_executor.h"
#include "base/check.h"
#include "model/footprint.h"

namespace hp {
namespace {

constexpr std::size_t kAlignment = 64;

struct Piece {
  DType type;
  std::int64_t count = 1, n = 0, k = 0;  ///< `count` matrices [n, k], each packed by itself
};

DType widened(DType type) {
  return type == DType::bf16 || type == DType::f16 ? type : DType::f32;
}

class WeightSum {
 public:
  WeightSum(const ModelTypes& model, const ShardPlan& plan) : m_(model), plan_(plan), c_(plan.config()) {}

  Result<std::size_t> bytes(bool predicts) {
    for (const TensorSpec& t : tensor_table(plan_.whole(), m_.forms)) {
      if (!predicts && layer_of(t.name) >= c_.layers) continue;
      HP_TRY_VOID(add(t));
    }
    return total_;
  }

 private:
  static std::int32_t layer_of(std::string_view name) {
    if (!name.starts_with("blk.")) return -1;
    std::int32_t layer = 0;
    for (const char c : name.substr(4)) {
      if (c == '.') break;
      layer = layer * 10 + (c - '0');
    }
    return layer;
  }

  Status add(const TensorSpec& t) {
    const TensorPart part = plan_.part(t.name, t.shape);
    if (t.shape.rank() == 1) {
      total_ += static_cast<std::size_t>(part.rows) * sizeof(float);
      return {};
    }
    const DType type = m_.type_of(t.name);
    if (t.tensor_class == TensorClass::router) return add({.type = DType::f32, .n = t.shape[0], .k = t.shape[1]});
    if (t.name.ends_with("attn_kv_b.weight")) return add_joined_kv_b(type);
    const bool stacked = t.shape.rank() == 3;  // heads or experts, cut apart
    const std::int64_t n = stacked && part.all_rows != t.shape[1] ? t.shape[1] : part.rows;  // of a head, or a part
    const std::int64_t count = !stacked ? 1 : part.all_rows == t.shape[1] ? t.shape[0] : part.rows / n;
    const std::int64_t k = part.columns;
    return add({.type = scaled(type, !stacked, k), .count = count, .n = n, .k = k});
  }

  /// Heads of k_b are transposed, which quantized rows cannot be.
  Status add_joined_kv_b(DType type) {
    const MlaConfig& a = *c_.mla;
    HP_TRY_VOID(add({.type = widened(type), .count = c_.heads, .n = a.kv_lora_rank, .k = a.qk_nope_dim}));
    return add({.type = scaled(type, false, a.kv_lora_rank), .count = c_.heads, .n = a.v_dim, .k = a.kv_lora_rank});
  }

  /// fp8 keeps its block scales where a whole matrix has wide enough blocks.
  [[nodiscard]] DType scaled(DType type, bool whole, std::int64_t k) const {
    if (type != DType::f8_e4m3 || !m_.block_scales) return type;
    return whole && (c_.fp8_block_columns % 128 == 0 || c_.fp8_block_columns >= k) ? type : DType::f32;
  }

  Status add(const Piece& p) {
    HP_TRY(const std::size_t bytes,
           kernels::packed_bytes(p.type, static_cast<std::int32_t>(p.n), static_cast<std::int32_t>(p.k)));
    total_ += static_cast<std::size_t>(p.count) * ((bytes + kAlignment - 1) / kAlignment * kAlignment);
    return {};
  }

  const ModelTypes& m_;
  const ShardPlan& plan_;
  const ModelConfig& c_;  ///< this rank's
  std::size_t total_ = 0;
};

}  // namespace

ModelTypes types_of(const Checkpoint& checkpoint) {
  const auto type_of = [&checkpoint](std::string_view name) {
    const NamedTensor* tensor = checkpoint.find(name);
    HP_CHECK(tensor != nullptr, "tensor '{}' has not been checked", name);
    return tensor->view.dtype;
  };
  const bool scales = std::ranges::any_of(
      checkpoint.tensors(), [](const NamedTensor& t) { return std::string_view(t.name).ends_with("_scale_inv"); });
  return {.config = checkpoint.config(), .forms = checkpoint.forms(), .type_of = type_of, .block_scales = scales};
}

Result<EngineMemory> cpu_engine_memory(const ModelTypes& model, const CpuExecutorOptions& o) {
  HP_TRY(const ShardPlan plan, ShardPlan::make(model.config, model.forms, model.type_of, o.rank));
  const ModelConfig& c = plan.config();
  const DType kv_dtype = o.kv_dtype.value_or(o.isa == kernels::Isa::ref ? DType::f32 : DType::f16);
  const std::int32_t context = o.context == 0 ? c.context : std::min(o.context, c.context);
  const bool predicts = o.predict && c.mtp_layers > 0;
  const KvLayout layout{.dtype = kv_dtype, .block_tokens = o.block_tokens, .prediction_layers = predicts ? 1 : 0};
  const std::size_t block = kv_bytes_per_block(c, layout);
  EngineMemory out;
  HP_TRY(out.weights, WeightSum(model, plan).bytes(predicts));
  out.tables =
      std::size_t{2} * static_cast<std::size_t>(context) * static_cast<std::size_t>(c.rope.dims / 2) * sizeof(float);
  const kernels::AttentionArgs widest = widest_attention(c, kv_view(c, kv_dtype, o.block_tokens), context);
  out.step = step_bytes(step_arrays(c, {.rows = o.max_step_tokens,
                                        .logit_rows = o.max_logit_rows,
                                        .members = o.threads,
                                        .scratch_floats = kernels::kernel_table(o.isa).attention_scratch_floats(widest),
                                        .predicts = predicts,
                                        .ranks = o.rank.world}));
  out.kv = block * (o.blocks > 0 ? static_cast<std::size_t>(o.blocks) : o.kv_bytes / block);
  return out;
}

Result<EngineMemory> ranks_engine_memory(const ModelTypes& model, const CpuExecutorOptions& options, int world) {
  EngineMemory sum;
  for (int r = 0; r < world; ++r) {
    HP_TRY(const EngineMemory own, cpu_engine_memory(model, share_of(options, {.rank = r, .world = world})));
    sum.weights += own.weights, sum.tables += own.tables, sum.step += own.step, sum.kv += own.kv;
  }
  return sum;
}

}  // namespace hp
