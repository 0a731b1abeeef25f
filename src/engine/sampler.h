// From one row of logits to one token: a pure function of logits, parameters, the sequence's tokens and a random
// counter, so that a resumed or recomputed sequence samples the same token. A Sampler keeps only scratch memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/request.h"
#include "engine/vocab_scan.h"

namespace hp {

struct SampleInput {
  std::span<const float> logits;           ///< [vocab]; NaN counts as impossible, +inf as the largest float
  std::span<const TokenId> prompt;         ///< repetition penalty only
  std::span<const TokenId> generated;      ///< all penalties
  std::span<const TokenId> forbidden;      ///< stop tokens before min_tokens
  std::span<const std::uint64_t> allowed;  ///< a constraint's mask, bit t of word t / 64; empty: everything
  std::uint64_t position = 0;              ///< of the token to sample, in the sequence
  std::uint32_t choice = 0;
};

struct Sample {
  TokenId token = 0;
  float logprob = 0.0F;           ///< of the model's own distribution; 0 unless asked for
  std::vector<TokenLogprob> top;  ///< likeliest first, ties by lowest id
};

class Sampler {
 public:
  /// Order: repetition, frequency and presence penalties, bias, masks, temperature, top-k, top-p, min-p. Temperature 0
  /// takes the largest, ties to the lowest id. An error when no token is possible.
  Result<Sample> sample(const SamplingParams& params, const SampleInput& input);

 private:
  std::span<const float> adjusted(const SamplingParams& params, const SampleInput& input, std::span<const float> row);
  std::span<const float> without_infinity(std::span<const float> row, std::vector<float>& scratch) const;
  void penalize(const SamplingParams& params, const SampleInput& input);
  TokenId draw(const SamplingParams& params, const SampleInput& input, std::span<const float> scores, float best);
  TokenId draw_from_all(double random) const;
  void keep_nucleus(const SamplingParams& params, std::span<const float> scores);
  void report(const SamplingParams& params, std::span<const float> logits, Sample& sample);

  std::vector<float> clean_, scores_;  ///< rows, copied only where something changes them
  std::vector<std::int32_t> counts_;   ///< [vocab], all 0 between calls
  WeightRow weights_;
  std::vector<ScoredToken> kept_;
};

/// The same with scratch memory of its own.
Result<Sample> sample_token(const SamplingParams& params, const SampleInput& input);

}  // namespace hp
