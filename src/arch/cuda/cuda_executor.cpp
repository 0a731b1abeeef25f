#include "arch/cuda/cuda_executor.h"

#include <algorithm>
#include <array>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "arch/cuda/weight_rows.h"
#include "arch/rope_table.h"

namespace hp {
namespace {

using cuda::PluginApi;
using cuda::WeightRole;
using cuda::WeightRows;

/// Of whole numbers; 0: other weights.
int bits_of(cuda::WeightType weights) {
  return weights == cuda::WeightType::int8 ? 8 : weights == cuda::WeightType::int4 ? 4 : 0;
}

inline constexpr int kGroup = 128;               // columns to a scale where the checkpoint does not say
inline constexpr std::int32_t kPieceRows = 128;  // pieces of a matrix begin at multiples of this

/// Hands one checkpoint's tensors to the plug-in piece by piece: as bf16, or as they are where the model's weights have
/// their form.
class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const PluginApi& api, void* model, cuda::WeightType weights, int group)
      : checkpoint_(checkpoint), api_(api), model_(model), weights_(weights), group_(group), reader_(checkpoint) {}

  /// Rows [source_row, source_row + rows) of a tensor of such rows.
  Status matrix(const std::string& name, WeightRole role, int layer, std::int32_t rows, std::int32_t columns,
                std::int64_t source_row = 0, int expert = 0) {
    HP_TRY(const NamedTensor* tensor, reader_.find(name));
    // The tables and the router stay bf16 on the GPU, and blocks begin with the matrix.
    const bool stays_bf16 = role == WeightRole::embedding || role == WeightRole::head || role == WeightRole::router ||
                            role == WeightRole::k_b || role == WeightRole::v_b;
    const bool fp8 =
        weights_ == cuda::WeightType::fp8 && !stays_bf16 && source_row % kPieceRows == 0 && reader_.is_fp8(*tensor);
    const int bits = stays_bf16 ? 0 : bits_of(weights_);
    const bool ints = bits > 0 && reader_.int_group(*tensor, bits) > 0;
    const std::size_t row_bytes = static_cast<std::size_t>(columns) * (fp8 ? 1U : sizeof(std::uint16_t));
    const std::int32_t piece = piece_rows(row_bytes);
    for (std::int32_t first = 0; first < rows; first += piece) {
      const std::int32_t count = std::min(piece, rows - first);
      WeightRows given{role, layer, first, count, columns, nullptr, expert};
      if (fp8) {
        given.data = tensor->view.data + static_cast<std::size_t>(source_row + first) * row_bytes;
        given.scales = reader_.fp8_scales(*tensor, source_row + first, count).data();
      } else if (ints) {
        const IntRows as_is = reader_.int_rows(*tensor, source_row + first, count, bits, group_);
        given.data = as_is.codes.data(), given.scales = as_is.scales.data();
      } else {
        given.data = reader_.bf16(*tensor, source_row + first, count, columns);
      }
      HP_TRY_VOID(give(given, name));
    }
    return {};
  }

  /// The two halves of kv_b [heads · (nope + v), rank]: keys transposed to [heads · rank, nope], values as they are.
  Status kv_b(const std::string& name, int layer, const ModelConfig& c) {
    HP_TRY(const NamedTensor* tensor, reader_.find(name));
    const MlaConfig& a = *c.mla;
    const std::size_t rank = static_cast<std::size_t>(a.kv_lora_rank), nope = static_cast<std::size_t>(a.qk_nope_dim);
    const std::size_t v = static_cast<std::size_t>(a.v_dim), rows = nope + v;
    bf16_.resize(rows * rank);
    for (int head = 0; head < c.heads; ++head) {
      const std::span<const float> in = reader_.floats(*tensor, head * static_cast<std::int64_t>(rows),
                                                       static_cast<std::int32_t>(rows), a.kv_lora_rank);
      for (std::size_t d = 0; d < rank; ++d) {
        for (std::size_t n = 0; n < nope; ++n) bf16_[d * nope + n] = f32_to_bf16(in[n * rank + d]);
      }
      std::transform(in.begin() + static_cast<std::ptrdiff_t>(nope * rank), in.end(),
                     bf16_.begin() + static_cast<std::ptrdiff_t>(nope * rank), f32_to_bf16);
      HP_TRY_VOID(
          give({WeightRole::k_b, layer, head * a.kv_lora_rank, a.kv_lora_rank, a.qk_nope_dim, bf16_.data()}, name));
      HP_TRY_VOID(
          give({WeightRole::v_b, layer, head * a.v_dim, a.v_dim, a.kv_lora_rank, bf16_.data() + nope * rank}, name));
    }
    return {};
  }

  Status row(const std::string& name, WeightRole role, int layer, std::int32_t count) {
    HP_TRY(const NamedTensor* tensor, reader_.find(name));
    return give({role, layer, 0, count, 0, reader_.floats(*tensor, 0, 1, count).data()}, name);
  }

  /// Pages of the layer's tensors can go.
  void release(const std::string& prefix) const {
    for (const NamedTensor& tensor : checkpoint_.tensors()) {
      if (tensor.name.starts_with(prefix)) checkpoint_.release(tensor);
    }
  }

 private:
  Status give(const WeightRows& rows, const std::string& name) {
    if (api_.load(model_, &rows) == 0) return {};
    return fail(ErrorCode::internal, "{}: {}", name, api_.error(model_));
  }

  const Checkpoint& checkpoint_;
  const PluginApi& api_;
  void* model_;
  cuda::WeightType weights_;
  int group_;
  WeightRowReader reader_;
  std::vector<std::uint16_t> bf16_;
};

Status load_gqa(const ModelConfig& c, int layer, const std::string& p, Loader& loader) {
  const std::int32_t q_out = c.heads * c.head_dim, kv_out = c.kv_heads * c.head_dim;
  if (c.qk_norm) {
    HP_TRY_VOID(loader.row(p + "attn_q_norm.weight", WeightRole::q_norm, layer, c.head_dim));
    HP_TRY_VOID(loader.row(p + "attn_k_norm.weight", WeightRole::k_norm, layer, c.head_dim));
  }
  if (c.qkv_bias) {
    HP_TRY_VOID(loader.row(p + "attn_q.bias", WeightRole::q_bias, layer, q_out));
    HP_TRY_VOID(loader.row(p + "attn_k.bias", WeightRole::k_bias, layer, kv_out));
    HP_TRY_VOID(loader.row(p + "attn_v.bias", WeightRole::v_bias, layer, kv_out));
  }
  HP_TRY_VOID(loader.matrix(p + "attn_q.weight", WeightRole::q, layer, q_out, c.hidden));
  HP_TRY_VOID(loader.matrix(p + "attn_k.weight", WeightRole::k, layer, kv_out, c.hidden));
  HP_TRY_VOID(loader.matrix(p + "attn_v.weight", WeightRole::v, layer, kv_out, c.hidden));
  return loader.matrix(p + "attn_output.weight", WeightRole::o, layer, c.hidden, q_out);
}

Status load_latent(const ModelConfig& c, TensorForms forms, int layer, const std::string& p, Loader& loader) {
  const MlaConfig& a = *c.mla;
  const std::int32_t q_out = c.heads * (a.qk_nope_dim + a.qk_rope_dim);
  HP_TRY_VOID(loader.row(p + "attn_kv_a_norm.weight", WeightRole::kv_a_norm, layer, a.kv_lora_rank));
  if (a.q_lora_rank > 0) {
    HP_TRY_VOID(loader.row(p + "attn_q_a_norm.weight", WeightRole::q_a_norm, layer, a.q_lora_rank));
    HP_TRY_VOID(loader.matrix(p + "attn_q_a.weight", WeightRole::q_a, layer, a.q_lora_rank, c.hidden));
    HP_TRY_VOID(loader.matrix(p + "attn_q_b.weight", WeightRole::q, layer, q_out, a.q_lora_rank));
  } else {
    HP_TRY_VOID(loader.matrix(p + "attn_q.weight", WeightRole::q, layer, q_out, c.hidden));
  }
  HP_TRY_VOID(
      loader.matrix(p + "attn_kv_a_mqa.weight", WeightRole::kv_a, layer, a.kv_lora_rank + a.qk_rope_dim, c.hidden));
  if (forms.split_kv_b) {
    HP_TRY_VOID(loader.matrix(p + "attn_k_b.weight", WeightRole::k_b, layer, c.heads * a.kv_lora_rank, a.qk_nope_dim));
    HP_TRY_VOID(loader.matrix(p + "attn_v_b.weight", WeightRole::v_b, layer, c.heads * a.v_dim, a.kv_lora_rank));
  } else {
    HP_TRY_VOID(loader.kv_b(p + "attn_kv_b.weight", layer, c));
  }
  return loader.matrix(p + "attn_output.weight", WeightRole::o, layer, c.hidden, c.heads * a.v_dim);
}

struct FfnRoles {
  WeightRole gate, up, down;
};

Status load_ffn(const std::string& p, const std::string& suffix, std::int32_t ffn, std::int32_t hidden, int layer,
                const FfnRoles& roles, Loader& loader) {
  HP_TRY_VOID(loader.matrix(p + "ffn_gate" + suffix + ".weight", roles.gate, layer, ffn, hidden));
  HP_TRY_VOID(loader.matrix(p + "ffn_up" + suffix + ".weight", roles.up, layer, ffn, hidden));
  return loader.matrix(p + "ffn_down" + suffix + ".weight", roles.down, layer, hidden, ffn);
}

Status load_experts(const ModelConfig& c, TensorForms forms, int layer, const std::string& p, Loader& loader) {
  const MoeConfig& m = *c.moe;
  HP_TRY_VOID(loader.matrix(p + "ffn_gate_inp.weight", WeightRole::router, layer, m.experts, c.hidden));
  if (m.has_score_bias) HP_TRY_VOID(loader.row(p + "exp_probs_b.bias", WeightRole::router_bias, layer, m.experts));
  const auto all = [&](const char* part, WeightRole role, std::int32_t rows, std::int32_t columns) -> Status {
    const std::string name = p + part;
    for (std::int32_t e = 0; e < m.experts; ++e) {
      HP_TRY_VOID(forms.merged_experts ? loader.matrix(name, role, layer, rows, columns, std::int64_t{e} * rows, e)
                                       : loader.matrix(expert_tensor_name(name, e), role, layer, rows, columns, 0, e));
    }
    return {};
  };
  HP_TRY_VOID(all("ffn_gate_exps.weight", WeightRole::expert_gate, m.expert_ffn, c.hidden));
  HP_TRY_VOID(all("ffn_up_exps.weight", WeightRole::expert_up, m.expert_ffn, c.hidden));
  HP_TRY_VOID(all("ffn_down_exps.weight", WeightRole::expert_down, c.hidden, m.expert_ffn));
  if (m.shared_experts == 0) return {};
  return load_ffn(p, "_shexp", m.shared_experts * m.expert_ffn, c.hidden, layer,
                  {WeightRole::shared_gate, WeightRole::shared_up, WeightRole::shared_down}, loader);
}

Status load_layer(const ModelConfig& c, TensorForms forms, int layer, Loader& loader) {
  const std::string p = "blk." + std::to_string(layer) + ".";
  HP_TRY_VOID(loader.row(p + "attn_norm.weight", WeightRole::attn_norm, layer, c.hidden));
  HP_TRY_VOID(loader.row(p + "ffn_norm.weight", WeightRole::ffn_norm, layer, c.hidden));
  HP_TRY_VOID(c.mla ? load_latent(c, forms, layer, p, loader) : load_gqa(c, layer, p, loader));
  HP_TRY_VOID(c.is_moe_layer(layer) ? load_experts(c, forms, layer, p, loader)
                                    : load_ffn(p, "", c.ffn, c.hidden, layer,
                                               {WeightRole::gate, WeightRole::up, WeightRole::down}, loader));
  loader.release(p);
  return {};
}

Status load_all(const Checkpoint& checkpoint, const PluginApi& api, void* model, cuda::WeightType weights, int group) {
  const ModelConfig& c = checkpoint.config();
  Loader loader(checkpoint, api, model, weights, group);
  const bool own_head = checkpoint.find("output.weight") != nullptr;
  HP_TRY_VOID(loader.matrix(own_head ? "output.weight" : "token_embd.weight", WeightRole::head, 0, c.vocab, c.hidden));
  HP_TRY_VOID(loader.matrix("token_embd.weight", WeightRole::embedding, 0, c.vocab, c.hidden));
  HP_TRY_VOID(loader.row("output_norm.weight", WeightRole::output_norm, 0, c.hidden));
  for (int layer = 0; layer < c.layers; ++layer) HP_TRY_VOID(load_layer(c, checkpoint.forms(), layer, loader));
  if (api.finish(model) != 0) return fail(ErrorCode::resource_exhausted, "{}", api.error(model));
  return {};
}

class CudaExecutor final : public Executor {
 public:
  CudaExecutor(const PluginApi& api, void* model) : api_(api), model_(model) {}
  ~CudaExecutor() override { api_.destroy(model_); }
  CudaExecutor(const CudaExecutor&) = delete;
  CudaExecutor& operator=(const CudaExecutor&) = delete;

  void describe(const ModelConfig& config, const std::string& fingerprint, const CudaExecutorOptions& options,
                std::int32_t context) {
    cuda::DeviceInfo device;
    api_.info(model_, &device);
    const std::string form(to_string(options.weights));
    const bool kv_fp8 = options.kv == cuda::KvType::fp8;
    const bool free = !options.batch_invariant;
    info_ = {.device = std::string("cuda ") + device.name + ", " + form + (kv_fp8 ? ", KV fp8" : "") +
                       (free ? ", not batch-invariant" : ""),
             .weights = fingerprint + "-cuda-" + form + (kv_fp8 ? "-kv-fp8" : "") + (free ? "-free" : ""),
             .vocab = config.vocab,
             .context = context,
             .block_tokens = device.block_tokens,
             .blocks = device.blocks,
             .block_bytes = device.block_bytes,
             .max_step_tokens = options.max_step_tokens,
             .max_logit_rows = options.max_logit_rows};
  }

  [[nodiscard]] const ExecutorInfo& info() const override { return info_; }

  Result<StepLogits> step(std::span<const SequenceStep> batch) override {
    static_assert(sizeof(BlockId) == sizeof(std::int32_t) && std::is_standard_layout_v<BlockId>);
    std::int32_t rows = 0;
    sequences_.clear();
    for (const SequenceStep& s : batch) {
      rows += s.logit_rows;
      sequences_.push_back({.tokens = s.tokens.data(),
                            .count = static_cast<int>(s.tokens.size()),
                            .position = s.position,
                            .logit_rows = s.logit_rows,
                            .blocks = reinterpret_cast<const std::int32_t*>(s.blocks.data())});
      if (const auto& d = s.draw)
        sequences_.back().draw = {d->temperature, d->top_p, d->min_p, d->choice, d->seed, d->position};
    }
    const bool best = std::ranges::all_of(
        batch, [](const SequenceStep& s) { return s.best_suffices || s.draw.has_value() || s.logit_rows == 0; });
    const float* logits = nullptr;
    const std::int32_t* drawn = nullptr;
    if (api_.step(model_, sequences_.data(), static_cast<int>(sequences_.size()), best ? nullptr : &logits,
                  best ? &drawn : nullptr) != 0)
      return fail(ErrorCode::unavailable, "{}", api_.error(model_));
    const auto count = static_cast<std::size_t>(rows);
    StepLogits out{.rows = rows, .vocab = info_.vocab};
    if (best) out.best = {drawn, count};
    if (best && std::ranges::find(out.best, kUndecided) != out.best.end() && api_.last_logits(model_, &logits) != 0)
      return fail(ErrorCode::unavailable, "{}", api_.error(model_));
    if (logits != nullptr) out.values = {logits, count * static_cast<std::size_t>(info_.vocab)};
    return out;
  }

 private:
  const PluginApi& api_;
  void* model_;
  ExecutorInfo info_;
  std::vector<cuda::PluginSequence> sequences_;
};

cuda::ModelShape shape_of(const ModelConfig& c, std::int32_t context) {
  cuda::ModelShape shape{.layers = c.layers,
                         .hidden = c.hidden,
                         .ffn = c.ffn,
                         .heads = c.heads,
                         .kv_heads = c.kv_heads,
                         .head_dim = c.head_dim,
                         .vocab = c.vocab,
                         .context = context,
                         .eps = c.rms_eps,
                         .attention_scale = static_cast<float>(attention_scale(c)),
                         .rope_dims = c.mla ? c.mla->qk_rope_dim : c.rope.dims,
                         .rope_interleaved = c.rope.layout == RopeLayout::interleaved,
                         .qkv_bias = c.qkv_bias,
                         .qk_norm = c.qk_norm};
  if (c.mla) shape.latent = {.nope = c.mla->qk_nope_dim, .v_dim = c.mla->v_dim, .q_rank = c.mla->q_lora_rank};
  if (const auto& m = c.moe) {
    shape.experts = {.experts = m->experts,
                     .chosen = m->experts_per_token,
                     .ffn = m->expert_ffn,
                     .shared_ffn = m->shared_experts * m->expert_ffn,
                     .first_dense = m->first_dense_layers,
                     .groups = m->group_score == MoeConfig::GroupScore::none ? 1 : m->groups,
                     .chosen_groups = m->groups_per_token,
                     .sigmoid = m->scoring == MoeConfig::Scoring::sigmoid,
                     .best_two = m->group_score == MoeConfig::GroupScore::top2_sum,
                     .normalize = m->normalize_weights,
                     .has_bias = m->has_score_bias,
                     .weight_scale = m->weight_scale};
  }
  return shape;
}

}  // namespace

std::string_view to_string(cuda::WeightType weights) {
  constexpr std::array<std::string_view, 4> kNames = {"bf16", "fp8", "int8", "int4"};
  return kNames[static_cast<std::size_t>(weights)];
}

std::optional<cuda::WeightType> gpu_weights_from(std::string_view name) {
  using cuda::WeightType;
  for (const WeightType w : {WeightType::bf16, WeightType::fp8, WeightType::int8, WeightType::int4}) {
    if (to_string(w) == name) return w;
  }
  return std::nullopt;
}

Status cuda_supports(const ModelConfig& c) {
  const auto no = [&](const std::string& why) {
    return fail(ErrorCode::unsupported, "{} runs on the CPU only so far: {}", c.name, why);
  };
  if (c.moe && c.moe->layer_step != 1) return no("experts in every " + std::to_string(c.moe->layer_step) + "th layer");
  if (!c.mla) {
    if (c.v_head_dim != c.head_dim) return no("keys and values of different sizes");
    return {};
  }
  const MlaConfig& a = *c.mla;
  if (a.q_lora_rank % 64 != 0)
    return no("low-rank queries of " + std::to_string(a.q_lora_rank) + "; a multiple of 64 is expected");
  if (a.kv_lora_rank != 512 || a.qk_rope_dim != 64)
    return no("a latent of " + std::to_string(a.kv_lora_rank) + " and " + std::to_string(a.qk_rope_dim) +
              " rotary dimensions; 512 and 64 are expected");
  if (c.rope.layout != RopeLayout::interleaved) return no("latent attention with halved rotary pairs");
  return {};
}

namespace {

/// `fill` gives the weights, and the model's fingerprint.
Result<std::unique_ptr<Executor>> make_executor(const ModelConfig& c, const CudaExecutorOptions& options, int group,
                                                const PluginApi& api,
                                                const std::function<Result<std::string>(void* model)>& fill) {
  HP_TRY_VOID(cuda_supports(c));
  const std::int32_t context = options.context > 0 ? std::min(options.context, c.context) : c.context;
  const RopeTable rope = build_rope_table(c.rope, context);
  const cuda::ModelShape shape = shape_of(c, context);
  const cuda::ModelOptions model_options{.weights = options.weights,
                                         .group = group,
                                         .kv = options.kv,
                                         .kv_bytes = options.kv_bytes,
                                         .max_step_tokens = options.max_step_tokens,
                                         .max_logit_rows = options.max_logit_rows,
                                         .invariant = options.batch_invariant};
  char error[512] = {};
  void* model =
      api.create(options.device, &shape, &model_options, rope.cos.data(), rope.sin.data(), error, sizeof error);
  if (model == nullptr) return fail(ErrorCode::resource_exhausted, "{}: {}", c.name, error);
  auto executor = std::make_unique<CudaExecutor>(api, model);
  HP_TRY(const std::string fingerprint, fill(model));
  executor->describe(c, fingerprint, options, context);
  return executor;
}

}  // namespace

Result<std::unique_ptr<Executor>> make_cuda_executor(const Checkpoint& checkpoint, const CudaExecutorOptions& options,
                                                     const PluginApi& api) {
  const int bits = bits_of(options.weights), group = bits > 0 ? int_group_of(checkpoint, bits) : kGroup;
  return make_executor(checkpoint.config(), options, group, api, [&](void* model) -> Result<std::string> {
    HP_TRY_VOID(load_all(checkpoint, api, model, options.weights, group));
    return checkpoint.fingerprint();
  });
}

Result<std::unique_ptr<Executor>> make_random_cuda_executor(const ModelConfig& config,
                                                            const CudaExecutorOptions& options, const PluginApi& api) {
  constexpr std::uint64_t kSeed = 1;
  return make_executor(config, options, kGroup, api, [&](void* model) -> Result<std::string> {
    if (api.load_random(model, kSeed) != 0 || api.finish(model) != 0)
      return fail(ErrorCode::resource_exhausted, "{} with random weights: {}", config.name, api.error(model));
    return std::string("random");
  });
}

}  // namespace hp
