#include "arch/cpu/cpu_executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "arch/cpu/forward.h"
#include "base/check.h"

namespace hp {
namespace {

class CpuExecutor final : public Executor {
 public:
  CpuExecutor(ShardPlan plan, const CpuExecutorOptions& options, ExecutorInfo info, DType kv_dtype)
      : plan_(std::move(plan)),
        config_(plan_.config()),
        ranks_(plan_.rank().world > 1 ? options.ranks : nullptr),
        info_(std::move(info)),
        table_(kernels::kernel_table(options.isa)),
        team_(options.threads),
        rope_(build_rope_table(config_.rope, info_.context)),
        kv_(kv_view(config_, kv_dtype, info_.block_tokens)) {
    kv_.block_stride = info_.block_bytes;
  }

  Status load(const Checkpoint& checkpoint) {
    const std::size_t scratch = table_.attention_scratch_floats(widest_attention(config_, kv_, info_.context));
    HP_TRY(state_, make_run_state(config_, {.limits = {.rows = info_.max_step_tokens,
                                                       .logit_rows = info_.max_logit_rows,
                                                       .members = team_.size(),
                                                       .scratch_floats = scratch,
                                                       .predicts = info_.predicts,
                                                       .ranks = plan_.rank().world},
                                            .blocks = info_.blocks,
                                            .kv = {.dtype = kv_.dtype,
                                                   .block_tokens = info_.block_tokens,
                                                   .prediction_layers = info_.predicts ? 1 : 0}}));
    kv_.base = state_.kv.data();
    HP_TRY(weights_, load_weights(checkpoint, plan_, info_.predicts, team_));
    info_.memory = {.weights = bytes_held(weights_),
                    .tables = (rope_.cos.size() + rope_.sin.size()) * sizeof(float),
                    .step = state_.memory.size(),
                    .kv = state_.kv.size()};
    return {};
  }

  [[nodiscard]] const ExecutorInfo& info() const override { return info_; }

  Result<StepLogits> step(std::span<const SequenceStep> batch) override {
    const std::int32_t rows = check_batch(batch);
    first_rows_.clear();
    std::int32_t tokens = 0;
    for (const SequenceStep& s : batch) {
      first_rows_.push_back(tokens);
      tokens += static_cast<std::int32_t>(s.tokens.size());
    }
    if (!batch.empty()) forward(model(), batch);
    HP_TRY_VOID(state_.link);
    const std::size_t values = static_cast<std::size_t>(rows) * static_cast<std::size_t>(config_.vocab);
    return StepLogits{.values = {state_.logits, values}, .rows = rows, .vocab = config_.vocab};
  }

  std::vector<TokenId> draft(std::span<const DraftRequest> requests) override {
    std::vector<TokenId> guesses(requests.size(), -1);
    if (!info_.predicts || requests.empty()) return guesses;
    std::vector<SequenceStep> batch;
    std::vector<std::int32_t> first_rows;
    for (const DraftRequest& r : requests) {
      HP_CHECK(first_rows.empty() || first_rows_[static_cast<std::size_t>(r.sequence)] > first_rows.back(),
               "requests for a draft must come in the order of the step");
      first_rows.push_back(first_rows_[static_cast<std::size_t>(r.sequence)]);
      batch.push_back(r.follow);
    }
    check_batch(batch);
    predict(model(), batch, first_rows);
    const float* row = state_.logits;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (batch[i].logit_rows == 0) continue;
      guesses[i] = static_cast<TokenId>(std::max_element(row, row + config_.vocab) - row);
      row += config_.vocab;
    }
    return guesses;
  }

 private:
  [[nodiscard]] CpuModel model() {
    return {.config = config_,
            .table = table_,
            .weights = weights_,
            .rope = rope_,
            .state = state_,
            .team = team_,
            .kv = kv_,
            .ranks = ranks_,
            .first_id = plan_.first_id()};
  }
  // The engine made the batch: whatever is wrong with it is a bug. Returns the logit rows.
  std::int32_t check_batch(std::span<const SequenceStep> batch) const {
    std::size_t tokens = 0;
    std::int32_t rows = 0;
    for (const SequenceStep& s : batch) {
      const auto count = static_cast<std::int64_t>(s.tokens.size());
      HP_CHECK(count > 0, "a sequence without tokens");
      HP_CHECK(s.position >= 0 && s.position + count <= info_.context, "{} tokens at {} in a context of {}", count,
               s.position, info_.context);
      HP_CHECK(s.logit_rows >= 0 && s.logit_rows <= count, "{} logit rows of {} tokens", s.logit_rows, count);
      const auto blocks = static_cast<std::size_t>((s.position + count + info_.block_tokens - 1) / info_.block_tokens);
      HP_CHECK(s.blocks.size() >= blocks, "{} blocks, {} needed", s.blocks.size(), blocks);
      for (const BlockId b : s.blocks.first(blocks)) {
        HP_CHECK(b.value >= 0 && b.value < info_.blocks, "block {} of {}", b.value, info_.blocks);
      }
      for (const TokenId t : s.tokens) HP_CHECK(t >= 0 && t < config_.vocab, "token {} of {}", t, config_.vocab);
      tokens += s.tokens.size();
      rows += s.logit_rows;
    }
    HP_CHECK(tokens <= static_cast<std::size_t>(info_.max_step_tokens), "{} tokens in a step of at most {}", tokens,
             info_.max_step_tokens);
    HP_CHECK(rows <= info_.max_logit_rows, "{} logit rows in a step of at most {}", rows, info_.max_logit_rows);
    return rows;
  }

  ShardPlan plan_;
  const ModelConfig& config_;  ///< of this rank
  Communicator* ranks_;        ///< null: alone
  ExecutorInfo info_;
  const kernels::KernelTable& table_;
  ParallelTeam team_;
  RopeTable rope_;
  kernels::KvView kv_;
  RunState state_;
  ModelWeights weights_;
  std::vector<std::int32_t> first_rows_;  ///< of the last step's sequences
};

Status check_options(const CpuExecutorOptions& o, DType kv_dtype) {
  if (kv_dtype != DType::f32 && kv_dtype != DType::f16 && kv_dtype != DType::bf16 && kv_dtype != DType::i8 &&
      kv_dtype != DType::f8_e4m3) {
    return fail(ErrorCode::invalid_argument, "KV type: expected f32, f16, bf16, i8 or f8_e4m3, found {}",
                traits(kv_dtype).name);
  }
  if (o.threads < 1 || o.max_step_tokens < 1 || o.max_logit_rows < 1 || o.blocks < 0 || o.context < 0) {
    return fail(
        ErrorCode::invalid_argument,
        "threads, step tokens and logit rows must be positive, found {}, {} and {}; blocks and context must not "
        "be negative, found {} and {}",
        o.threads, o.max_step_tokens, o.max_logit_rows, o.blocks, o.context);
  }
  if (o.block_tokens != kQueryTile) {
    return fail(ErrorCode::unsupported, "tokens per KV block: expected {}, found {}", kQueryTile, o.block_tokens);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Executor>> make_cpu_executor(Checkpoint& checkpoint, const CpuExecutorOptions& options) {
  HP_TRY(ShardPlan plan, ShardPlan::make(checkpoint, options.rank));
  HP_CHECK(options.rank.world == 1 || options.ranks != nullptr, "{} ranks without a way to each other",
           options.rank.world);
  const ModelConfig& c = plan.config();
  const DType kv_dtype = options.kv_dtype.value_or(options.isa == kernels::Isa::ref ? DType::f32 : DType::f16);
  HP_TRY_VOID(check_options(options, kv_dtype));
  ExecutorInfo info;
  info.device = fmt::format("cpu {}, {} threads", kernels::to_string(options.isa), options.threads);
  info.weights = fmt::format("{}-kv-{}", checkpoint.fingerprint(), traits(kv_dtype).name);
  info.vocab = c.vocab;
  info.context = options.context == 0 ? c.context : std::min(options.context, c.context);
  info.block_tokens = options.block_tokens;
  info.predicts = options.predict && c.mtp_layers > 0;
  info.block_bytes = kv_bytes_per_block(
      c, {.dtype = kv_dtype, .block_tokens = options.block_tokens, .prediction_layers = info.predicts ? 1 : 0});
  constexpr std::size_t kMostBlocks = std::size_t{1} << 30;
  info.blocks = options.blocks > 0
                    ? options.blocks
                    : static_cast<std::int32_t>(std::min(options.kv_bytes / info.block_bytes, kMostBlocks));
  if (info.blocks < 1) {
    return fail(ErrorCode::resource_exhausted, "{} bytes for the KV cache do not hold one block of {} bytes: give more",
                options.kv_bytes, info.block_bytes);
  }
  info.max_step_tokens = options.max_step_tokens;
  info.max_logit_rows = options.max_logit_rows;
  auto executor = std::make_unique<CpuExecutor>(std::move(plan), options, std::move(info), kv_dtype);
  HP_TRY_VOID(executor->load(checkpoint));
  return executor;
}

}  // namespace hp
