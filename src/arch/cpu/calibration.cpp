#include "arch/cpu/calibration.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "arch/cpu/forward.h"
#include "model/footprint.h"
#include "model/tensor_table.h"

namespace hp {
namespace {

constexpr std::int32_t kStepRows = 128;
constexpr std::int64_t kFewestRows = 16;  // of an expert, say: below, its figures would be chance

class Observer final : public OperandObserver {
 public:
  void watch(const kernels::PackedMatrix& weight, std::string name) { sums_[&weight].names.push_back(std::move(name)); }

  void note(const float* x, std::int32_t count, std::int32_t k, Range columns,
            std::initializer_list<const kernels::PackedMatrix*> weights) override {
    std::vector<double> squares(columns.end - columns.begin);
    for (std::int32_t r = 0; r < count; ++r) {
      const float* const row = x + static_cast<std::size_t>(r) * static_cast<std::size_t>(k) + columns.begin;
      for (std::size_t i = 0; i < squares.size(); ++i) squares[i] += static_cast<double>(row[i]) * row[i];
    }
    const std::lock_guard lock(mutex_);
    for (const kernels::PackedMatrix* w : weights) {
      const auto found = sums_.find(w);
      if (found == sums_.end()) continue;
      Sum& sum = found->second;
      sum.squares.resize(static_cast<std::size_t>(k));
      for (std::size_t i = 0; i < squares.size(); ++i) sum.squares[columns.begin + i] += squares[i];
      if (columns.begin == 0) sum.rows += count;
    }
  }

  /// Adds what was seen since the last call; nothing is watched afterwards.
  void finish(Importance& out) {
    for (auto& [weight, sum] : sums_) {
      double total = 0.0;
      for (const double s : sum.squares) total += s;
      if (sum.rows < kFewestRows || !(total > 0.0)) continue;
      const double scale = static_cast<double>(sum.squares.size()) / total;
      std::vector<float> values;
      for (const double s : sum.squares) values.push_back(static_cast<float>(s * scale));
      for (const std::string& name : sum.names) out[name] = values;
    }
    sums_.clear();
  }

 private:
  struct Sum {
    std::vector<std::string> names;
    std::vector<double> squares;
    std::int64_t rows = 0;
  };
  std::mutex mutex_;
  std::map<const kernels::PackedMatrix*, Sum> sums_;
};

void watch_ffn(Observer& o, const FfnWeights& w, const std::string& p, const std::string& suffix) {
  o.watch(w.gate, p + "ffn_gate" + suffix + ".weight");
  o.watch(w.up, p + "ffn_up" + suffix + ".weight");
  o.watch(w.down, p + "ffn_down" + suffix + ".weight");
}

// Gate and up of every expert are watched through those of the first, which stand for all before the router chose: an
// expert's own share of the rows would be too few.
void watch_experts(Observer& o, const MoeWeights& w, const std::string& p) {
  for (std::int32_t e = 0; e < static_cast<std::int32_t>(w.experts.size()); ++e) {
    o.watch(w.experts.front().gate, expert_tensor_name(p + "ffn_gate_exps.weight", e));
    o.watch(w.experts.front().up, expert_tensor_name(p + "ffn_up_exps.weight", e));
    o.watch(w.experts[static_cast<std::size_t>(e)].down, expert_tensor_name(p + "ffn_down_exps.weight", e));
  }
  if (w.shared.has_value()) watch_ffn(o, *w.shared, p, "_shexp");
}

void watch_layer(Observer& o, const LayerWeights& w, std::int32_t index) {
  const std::string p = "blk." + std::to_string(index) + ".";
  if (const auto* a = std::get_if<GqaWeights>(&w.attention)) {
    o.watch(a->q, p + "attn_q.weight");
    o.watch(a->k, p + "attn_k.weight");
    o.watch(a->v, p + "attn_v.weight");
    o.watch(a->o, p + "attn_output.weight");
  } else {
    const auto& m = std::get<MlaWeights>(w.attention);
    const bool low = m.q_a.n > 0;
    if (low) o.watch(m.q_a, p + "attn_q_a.weight");
    o.watch(m.q, p + (low ? "attn_q_b.weight" : "attn_q.weight"));
    o.watch(m.kv_a, p + "attn_kv_a_mqa.weight");
    o.watch(m.o, p + "attn_output.weight");
  }
  if (const auto* moe = std::get_if<MoeWeights>(&w.ffn)) {
    watch_experts(o, *moe, p);
  } else {
    watch_ffn(o, std::get<FfnWeights>(w.ffn), p, "");
  }
}

class Calibration {
 public:
  Calibration(const Checkpoint& checkpoint, std::span<const std::vector<TokenId>> windows,
              const CalibrationOptions& options)
      : checkpoint_(checkpoint),
        windows_(windows),
        options_(options),
        config_(checkpoint.config()),
        table_(kernels::kernel_table(options.isa)),
        team_(options.threads),
        hidden_(static_cast<std::size_t>(config_.hidden)) {
    config_.layers = 1;  // of KV
  }

  Result<Importance> run() {
    HP_TRY_VOID(embed());
    HP_TRY_VOID(make_state());
    Importance out;
    const std::int32_t layers = checkpoint_.config().layers;
    for (std::int32_t l = 0; l < layers; ++l) {
      HP_TRY(const std::unique_ptr<OneLayer> layer, load_layer(checkpoint_, l, team_));
      Observer observer;
      watch_layer(observer, layer->weights, l);
      std::size_t row = 0;
      for (const auto& window : windows_) row = run_window(layer->weights, window, row, observer);
      observer.finish(out);
      if (options_.progress) options_.progress(static_cast<std::size_t>(l) + 1, static_cast<std::size_t>(layers));
    }
    return out;
  }

 private:
  Status embed() {
    kernels::PackedMatrix embedding;
    WeightPacking packing(checkpoint_);
    HP_TRY_VOID(packing.matrix("token_embd.weight", config_.vocab, config_.hidden, embedding));
    HP_TRY(const Buffer packed, packing.pack_all(team_));
    std::size_t total = 0, row = 0;
    for (const auto& window : windows_) {
      total += window.size();
      longest_ = std::max(longest_, static_cast<std::int32_t>(window.size()));
    }
    x_.resize(total * hidden_);
    for (const auto& window : windows_)
      for (const TokenId token : window) table_.unpack_row(embedding, token, x_.data() + row++ * hidden_);
    return {};
  }

  Status make_state() {
    rope_ = build_rope_table(config_.rope, longest_);
    const DType kv_type = DType::f32;
    kv_ = kv_view(config_, kv_type, kQueryTile);
    const KvLayout layout{.dtype = kv_type, .block_tokens = kQueryTile, .prediction_layers = 0};
    kv_.block_stride = kv_bytes_per_block(config_, layout);
    const std::int32_t blocks = (longest_ + kQueryTile - 1) / kQueryTile;
    for (std::int32_t b = 0; b < blocks; ++b) blocks_.push_back(BlockId{b});
    HP_TRY(state_, make_run_state(config_, {.limits = {.rows = kStepRows,
                                                       .logit_rows = 1,
                                                       .members = team_.size(),
                                                       .scratch_floats = table_.attention_scratch_floats(
                                                           widest_attention(config_, kv_, longest_)),
                                                       .predicts = false},
                                            .blocks = blocks,
                                            .kv = layout}));
    kv_.base = state_.kv.data();
    return {};
  }

  std::size_t run_window(const LayerWeights& layer, const std::vector<TokenId>& window, std::size_t row,
                         Observer& observer) {
    const CpuModel model{.config = config_,
                         .table = table_,
                         .weights = none_,
                         .rope = rope_,
                         .state = state_,
                         .team = team_,
                         .kv = kv_,
                         .observer = &observer};
    for (std::size_t at = 0; at < window.size(); at += kStepRows) {
      const std::size_t count = std::min<std::size_t>(kStepRows, window.size() - at);
      const SequenceStep step{
          .tokens = std::span(window).subspan(at, count), .position = static_cast<std::int32_t>(at), .blocks = blocks_};
      float* const x = x_.data() + (row + at) * hidden_;
      std::memcpy(state_.x, x, count * hidden_ * sizeof(float));
      team_.run([&](int member) { run_layer(StepMember(model, {&step, 1}, member), layer, 0); });
      std::memcpy(x, state_.x, count * hidden_ * sizeof(float));
    }
    return row + window.size();
  }

  const Checkpoint& checkpoint_;
  std::span<const std::vector<TokenId>> windows_;
  const CalibrationOptions& options_;
  ModelConfig config_;
  const kernels::KernelTable& table_;
  ParallelTeam team_;
  const std::size_t hidden_;
  std::int32_t longest_ = 0;
  std::vector<float> x_;  // [tokens of all windows, hidden]: between two layers
  RopeTable rope_;
  kernels::KvView kv_;
  std::vector<BlockId> blocks_;
  RunState state_;
  const ModelWeights none_;
};

}  // namespace

Result<Importance> measure_importance(const Checkpoint& checkpoint, std::span<const std::vector<TokenId>> windows,
                                      const CalibrationOptions& options) {
  const ModelConfig& c = checkpoint.config();
  for (const auto& window : windows) {
    if (window.empty() || window.size() > static_cast<std::size_t>(c.context))
      return fail(ErrorCode::invalid_argument, "a window of {} tokens, the model's context is {}", window.size(),
                  c.context);
    for (const TokenId token : window) {
      if (token < 0 || token >= c.vocab)
        return fail(ErrorCode::invalid_argument, "token {} is not in the model's vocabulary of {}", token, c.vocab);
    }
  }
  return Calibration(checkpoint, windows, options).run();
}

}  // namespace hp
