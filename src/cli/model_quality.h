// How well a model predicts a text, and how often two models agree on the next token. Runs on the CPU, one model at a
// time, in windows of the same tokens.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace hp::cli {

inline constexpr std::int32_t kQualityWindow = 512;  ///< tokens that a prediction may look back at

struct Predictions {
  double log_likelihood = 0.0;  ///< of every token but each window's first
  std::vector<TokenId> best;    ///< the most likely next token, in the same order
  [[nodiscard]] double perplexity() const;
};

using Windows = std::vector<std::vector<TokenId>>;

/// Cuts tokens into windows; a rest of one token is dropped.
Windows cut_windows(const std::vector<TokenId>& tokens);
/// With a KV cache of `kv`; nothing: what the kernels take by themselves.
Result<Predictions> predict(const std::filesystem::path& model, std::optional<DType> kv, const Windows& windows,
                            int threads, const std::function<void(std::size_t done, std::size_t total)>& progress);
/// Share of equal `best`, 0 to 1.
double agreement(const Predictions& a, const Predictions& b);

}  // namespace hp::cli
