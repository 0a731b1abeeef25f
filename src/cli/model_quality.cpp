#include "cli/model_quality.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "arch/cpu/cpu_executor.h"
#include "base/check.h"

namespace hp::cli {
namespace {

constexpr std::int32_t kRows = 64;  // of one step

/// log of the probability that `token` has.
double log_probability(std::span<const float> logits, TokenId token) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float v : logits) sum += std::exp(v - top);
  return logits[static_cast<std::size_t>(token)] - top - std::log(sum);
}

Status predict_window(Executor& executor, std::span<const BlockId> blocks, const std::vector<TokenId>& window,
                      Predictions& out) {
  const auto count = static_cast<std::int32_t>(window.size()) - 1;
  for (std::int32_t first = 0; first < count; first += kRows) {
    const std::int32_t rows = std::min(kRows, count - first);
    const SequenceStep step{
        .tokens = std::span(window).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)),
        .position = first,
        .blocks = blocks,
        .logit_rows = rows};
    HP_TRY(const StepLogits logits, executor.step({&step, 1}));
    for (std::int32_t r = 0; r < rows; ++r) {
      const std::span<const float> row = logits.row(r);
      out.best.push_back(static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin()));
      out.log_likelihood += log_probability(row, window[static_cast<std::size_t>(first + r + 1)]);
    }
  }
  return {};
}

}  // namespace

double Predictions::perplexity() const {
  return best.empty() ? 0.0 : std::exp(-log_likelihood / static_cast<double>(best.size()));
}

Windows cut_windows(const std::vector<TokenId>& tokens) {
  Windows out;
  for (std::size_t i = 0; i + 1 < tokens.size(); i += kQualityWindow) {
    const std::size_t end = std::min<std::size_t>(tokens.size(), i + kQualityWindow);
    if (end - i > 1)
      out.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(i),
                       tokens.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return out;
}

Result<Predictions> predict(const std::filesystem::path& model, std::optional<DType> kv, const Windows& windows,
                            int threads, const std::function<void(std::size_t done, std::size_t total)>& progress) {
  HP_TRY(Checkpoint checkpoint, Checkpoint::open(model));
  for (const auto& window : windows) {
    for (const TokenId token : window) {
      if (token < 0 || token >= checkpoint.config().vocab)
        return fail(ErrorCode::invalid_argument, "token {} is not in the model's vocabulary of {}", token,
                    checkpoint.config().vocab);
    }
  }
  HP_TRY(const kernels::Isa isa, kernels::choose_isa("auto"));
  const std::int32_t context = std::min(kQualityWindow, checkpoint.config().context);
  HP_TRY(const std::unique_ptr<Executor> executor, make_cpu_executor(checkpoint, {.isa = isa,
                                                                                  .threads = threads,
                                                                                  .kv_dtype = kv,
                                                                                  .blocks = kQualityWindow / 16 + 1,
                                                                                  .max_step_tokens = kRows,
                                                                                  .max_logit_rows = kRows,
                                                                                  .context = context}));
  std::vector<BlockId> blocks(static_cast<std::size_t>(executor->info().blocks));
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<BlockId>(static_cast<std::int32_t>(i));
  Predictions out;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if (static_cast<std::int32_t>(windows[i].size()) > context)
      return fail(ErrorCode::unsupported, "a window of {} tokens is beyond the model's context of {}",
                  windows[i].size(), context);
    HP_TRY_VOID(predict_window(*executor, blocks, windows[i], out));
    if (progress) progress(i + 1, windows.size());
  }
  return out;
}

double agreement(const Predictions& a, const Predictions& b) {
  HP_CHECK(a.best.size() == b.best.size(), "{} and {} predictions", a.best.size(), b.best.size());
  if (a.best.empty()) return 0.0;
  std::size_t same = 0;
  for (std::size_t i = 0; i < a.best.size(); ++i) same += a.best[i] == b.best[i] ? 1 : 0;
  return static_cast<double>(same) / static_cast<double>(a.best.size());
}

}  // namespace hp::cli
