#include "arch/cpu/calibration.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "arch/cpu/calibration_layer.h"

namespace hp {
namespace {

std::vector<std::size_t> lengths_of(std::span<const std::vector<TokenId>> windows, std::size_t less) {
  std::vector<std::size_t> out;
  for (const auto& w : windows) {
    if (w.size() > less) out.push_back(w.size() - less);
  }
  return out;
}

class Calibration {
 public:
  Calibration(const Checkpoint& checkpoint, const QuantizePlan& plan, std::span<const std::vector<TokenId>> windows,
              const RoundedStore& store, const CalibrationOptions& options)
      : checkpoint_(checkpoint),
        windows_(windows),
        config_(checkpoint.config()),
        team_(options.threads),
        products_(kernels::kernel_table(options.isa), team_),
        pass_(checkpoint, plan, store, products_),
        layers_(checkpoint, pass_, products_, lengths_of(windows, 0)) {}

  Status run(const std::function<void(std::size_t, std::size_t)>& progress) {
    const bool tied = checkpoint_.find("output.weight") == nullptr;
    const bool twice = tied && pass_.to_round("token_embd.weight");
    count_work(twice, progress);
    if (twice) HP_TRY_VOID(round_tied_head());
    pass_.rounds = true;
    HP_TRY(RowPair x, embed(0));
    for (std::int32_t l = 0; l < config_.layers; ++l) HP_TRY_VOID(layers_.run(l, x));
    HP_TRY(const RowPair last, normed(layers_, x, "output_norm.weight"));
    if (!tied) HP_TRY_VOID(round_head(last, "output.weight"));
    return config_.mtp_layers > 0 ? prediction(last) : Status();
  }

 private:
  void count_work(bool twice, const std::function<void(std::size_t, std::size_t)>& progress) {
    std::size_t total = 0;
    for (const NamedTensor& t : checkpoint_.tensors()) total += t.view.bytes() * (twice ? 2 : 1);
    if (!progress) return;
    pass_.progress = [this, total, progress](std::size_t bytes) {
      done_ = std::min(total, done_ + bytes);
      progress(done_, total);
    };
  }

  Result<RowPair> normed(LayerCalibration& layers, const RowPair& x, const std::string& weight) {
    return layers.normed(x, weight, 0, static_cast<std::size_t>(config_.hidden), config_.rms_eps);
  }

  /// Embeddings of every window from its token `skip` on.
  Result<RowPair> embed(std::size_t skip) {
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    std::vector<std::size_t> tokens;
    for (const auto& w : windows_) {
      if (w.size() > skip) tokens.insert(tokens.end(), w.begin() + static_cast<std::ptrdiff_t>(skip), w.end());
    }
    HP_TRY(RowPair x, pass_.make_rows(tokens.size(), hidden));
    const TensorView& t = checkpoint_.find("token_embd.weight")->view;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      kernels::dequantize(t.dtype, t.data + storage_bytes(t.dtype, tokens[i] * hidden), hidden, x.original.row(i));
    x.original.release();
    if (pass_.rounds) HP_TRY_VOID(pass_.rounded_rows("token_embd.weight", tokens, x.rounded));
    return x;
  }

  // An embedding that is the head too is rounded for what the head needs, and before the layers, which are then rounded
  // for what the embedding has become.
  Status round_tied_head() {
    pass_.rounds = false;
    HP_TRY(RowPair x, embed(0));
    for (std::int32_t l = 0; l < config_.layers; ++l) HP_TRY_VOID(layers_.run(l, x));
    HP_TRY(RowPair last, normed(layers_, x, "output_norm.weight"));
    pass_.rounds = true;
    HP_TRY(RowPair both, pass_.make_rows(last.original.rows(), last.original.width()));
    for (std::size_t r = 0; r < last.original.rows(); ++r)
      std::copy_n(last.original.row(r), last.original.width(), both.rounded.row(r));
    both.original = std::move(last.original);
    return round_head(both, "token_embd.weight");
  }

  Status round_head(const RowPair& last, const std::string& name) {
    ProductInputs inputs{.rows = last};
    if (!pass_.to_round(name)) return {};
    return pass_.multiply({.name = name,
                           .n = static_cast<std::size_t>(config_.vocab),
                           .k = static_cast<std::size_t>(config_.hidden),
                           .out = nullptr,
                           .add = false,
                           .bias = nullptr},
                          inputs);
  }

  // The prediction layer sees, normed, the token that follows and the state that foretold it (forward.cpp).
  Status prediction(const RowPair& last) {
    const std::vector<std::size_t> lengths = lengths_of(windows_, 1);
    if (lengths.empty()) return {};
    const auto hidden = static_cast<std::size_t>(config_.hidden);
    const std::string p = "blk." + std::to_string(config_.layers) + ".";
    LayerCalibration layer(checkpoint_, pass_, products_, lengths);
    HP_TRY(const RowPair next, embed(1));
    HP_TRY(RowPair states, pass_.make_rows(next.original.rows(), hidden));
    const auto without_last = [&](const SpilledRows& from, SpilledRows& to) {
      std::size_t row = 0, first = 0;
      for (const auto& w : windows_) {
        for (std::size_t i = 0; i + 1 < w.size(); ++i) std::copy_n(from.row(first + i), hidden, to.row(row++));
        first += w.size();
        from.release();
        to.release();
      }
    };
    without_last(last.original, states.original);
    without_last(last.rounded, states.rounded);
    HP_TRY(const RowPair embeddings, normed(layer, next, p + "nextn.enorm.weight"));
    HP_TRY(const RowPair foretold, normed(layer, states, p + "nextn.hnorm.weight"));
    HP_TRY(RowPair pairs, pass_.make_rows(next.original.rows(), 2 * hidden));
    const auto join = [&](const SpilledRows& a, const SpilledRows& b, SpilledRows& to) {
      for (std::size_t r = 0; r < to.rows(); ++r) {
        std::copy_n(a.row(r), hidden, to.row(r));
        std::copy_n(b.row(r), hidden, to.row(r) + hidden);
        if (r % 512 != 511) continue;
        for (const SpilledRows* rows : {&a, &b, static_cast<const SpilledRows*>(&to)}) rows->release();
      }
    };
    join(embeddings.original, foretold.original, pairs.original);
    join(embeddings.rounded, foretold.rounded, pairs.rounded);
    HP_TRY(RowPair x, pass_.make_rows(next.original.rows(), hidden));
    ProductInputs inputs{.rows = pairs};
    HP_TRY_VOID(pass_.multiply(
        {.name = p + "nextn.eh_proj.weight", .n = hidden, .k = 2 * hidden, .out = &x, .add = false, .bias = nullptr},
        inputs));
    return layer.run(config_.layers, x);
  }

  const Checkpoint& checkpoint_;
  std::span<const std::vector<TokenId>> windows_;
  const ModelConfig& config_;
  ParallelTeam team_;
  const FloatProducts products_;
  RoundingPass pass_;
  LayerCalibration layers_;
  std::size_t done_ = 0;
};

}  // namespace

Status calibrate(const Checkpoint& checkpoint, const QuantizePlan& plan, std::span<const std::vector<TokenId>> windows,
                 const RoundedStore& store, const CalibrationOptions& options) {
  const ModelConfig& c = checkpoint.config();
  if (windows.empty()) return fail(ErrorCode::invalid_argument, "the text to calibrate with is empty");
  for (const auto& window : windows) {
    if (window.empty() || window.size() > static_cast<std::size_t>(c.context))
      return fail(ErrorCode::invalid_argument, "a window of {} tokens, the model's context is {}", window.size(),
                  c.context);
    for (const TokenId token : window) {
      if (token < 0 || token >= c.vocab)
        return fail(ErrorCode::invalid_argument, "token {} is not in the model's vocabulary of {}", token, c.vocab);
    }
  }
  std::error_code error;
  std::filesystem::create_directories(store.folder(), error);
  return Calibration(checkpoint, plan, windows, store, options).run(options.progress);
}

}  // namespace hp
