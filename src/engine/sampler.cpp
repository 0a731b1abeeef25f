#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/counter_rng.h"
#include "engine/limits.h"

namespace hp {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

bool in_range(TokenId t, std::span<const float> row) {
  return t >= 0 && static_cast<std::size_t>(t) < row.size();
}

bool is_allowed(std::span<const std::uint64_t> allowed, std::size_t t) {
  return t / 64 < allowed.size() && ((allowed[t / 64] >> (t % 64)) & 1U) != 0;
}

}  // namespace

/// +inf becomes the largest float. NaN needs nothing: every pass over a row leaves it out.
std::span<const float> Sampler::without_infinity(std::span<const float> row, std::vector<float>& scratch) const {
  if (row.data() != scratch.data()) scratch.assign(row.begin(), row.end());
  for (float& v : scratch)
    if (v > kLargest) v = kLargest;
  return scratch;
}

void Sampler::penalize(const SamplingParams& p, const SampleInput& in) {
  if (p.repetition_penalty != 1.0F) {
    counts_.resize(scores_.size(), 0);
    for (const std::span<const TokenId> tokens : {in.prompt, in.generated})
      for (const TokenId t : tokens) {
        if (!in_range(t, scores_) || counts_[static_cast<std::size_t>(t)]++ > 0) continue;
        float& s = scores_[static_cast<std::size_t>(t)];
        s = s > 0.0F ? s / p.repetition_penalty : s * p.repetition_penalty;
      }
    for (const std::span<const TokenId> tokens : {in.prompt, in.generated})
      for (const TokenId t : tokens)
        if (in_range(t, scores_)) counts_[static_cast<std::size_t>(t)] = 0;
  }
  if (p.frequency_penalty != 0.0F || p.presence_penalty != 0.0F) {
    counts_.resize(scores_.size(), 0);
    for (const TokenId t : in.generated)
      if (in_range(t, scores_)) ++counts_[static_cast<std::size_t>(t)];
    for (const TokenId t : in.generated) {
      if (!in_range(t, scores_)) continue;
      const std::int32_t n = std::exchange(counts_[static_cast<std::size_t>(t)], 0);
      if (n > 0)
        scores_[static_cast<std::size_t>(t)] -= p.frequency_penalty * static_cast<float>(n) + p.presence_penalty;
    }
  }
  for (const auto& [t, bias] : p.logit_bias)
    if (in_range(t, scores_)) scores_[static_cast<std::size_t>(t)] += bias;
}

/// The row itself when nothing in the request changes it.
std::span<const float> Sampler::adjusted(const SamplingParams& p, const SampleInput& in, std::span<const float> row) {
  const bool penalties = p.repetition_penalty != 1.0F || p.frequency_penalty != 0.0F || p.presence_penalty != 0.0F;
  if (!penalties && p.logit_bias.empty() && in.forbidden.empty() && in.allowed.empty()) return row;
  scores_.assign(row.begin(), row.end());
  penalize(p, in);
  for (const TokenId t : in.forbidden)
    if (in_range(t, scores_)) scores_[static_cast<std::size_t>(t)] = kImpossible;
  if (!in.allowed.empty())
    for (std::size_t t = 0; t < scores_.size(); ++t)
      if (!is_allowed(in.allowed, t)) scores_[t] = kImpossible;
  return scores_;
}

/// Over all tokens, in order of their ids; the block first, then the token in it.
TokenId Sampler::draw_from_all(double random) const {
  double left = random * weights_.total;
  std::size_t b = 0;
  while (b + 1 < weights_.sums.size() && left >= weights_.sums[b]) left -= weights_.sums[b++];
  // Rounding may carry the draw past the end: then it is the last token that has a weight.
  while (weights_.sums[b] == 0.0) --b;
  TokenId last = 0;
  for (std::size_t i = b * kWeightBlock; i < (b + 1) * kWeightBlock; ++i) {
    const auto weight = static_cast<double>(weights_.weights[i]);
    if (weight == 0.0) continue;
    last = static_cast<TokenId>(i);
    if (left < weight) break;
    left -= weight;
  }
  return last;
}

/// kept_: the smallest set of best tokens that has top_p of all weight. A token below (1 - top_p) · total / vocab
/// cannot be in it, because all such tokens together have less than 1 - top_p: only the others are sorted.
void Sampler::keep_nucleus(const SamplingParams& p, std::span<const float> scores) {
  const double least = (1.0 - static_cast<double>(p.top_p)) * weights_.total / static_cast<double>(scores.size());
  kept_.clear();
  for (std::size_t b = 0; b < weights_.sums.size(); ++b) {
    if (weights_.sums[b] < least) continue;
    for (std::size_t i = b * kWeightBlock; i < (b + 1) * kWeightBlock; ++i)
      if (const float w = weights_.weights[i]; w > 0.0F && static_cast<double>(w) >= least)
        kept_.push_back({.token = static_cast<TokenId>(i), .score = w});
  }
  std::ranges::sort(kept_, [](const ScoredToken& a, const ScoredToken& b) {
    return a.score != b.score ? a.score > b.score : a.token < b.token;
  });
}

TokenId Sampler::draw(const SamplingParams& p, const SampleInput& in, std::span<const float> scores, float best) {
  const double random = uniform_at(p.seed, in.position, in.choice);
  const bool some = p.top_k > 0 && static_cast<std::size_t>(p.top_k) < scores.size();
  if (some) {
    best_tokens(scores, static_cast<std::size_t>(p.top_k), kept_);
    const double scale = 1.0 / std::max(static_cast<double>(p.temperature), 1e-6);
    for (ScoredToken& t : kept_)
      t.score = static_cast<float>(std::exp((static_cast<double>(t.score) - static_cast<double>(best)) * scale));
  } else {
    weigh(scores, best, p.temperature, weights_);
    if (p.top_p >= 1.0F && p.min_p <= 0.0F) return draw_from_all(random);
    if (p.top_p < 1.0F) {
      keep_nucleus(p, scores);
    } else {
      kept_.clear();
      for (std::size_t t = 0; t < scores.size(); ++t)
        if (weights_.weights[t] > 0.0F)
          kept_.push_back({.token = static_cast<TokenId>(t), .score = weights_.weights[t]});
    }
  }
  double total = some ? 0.0 : weights_.total;
  if (some)
    for (const ScoredToken& t : kept_) total += static_cast<double>(t.score);
  if (p.top_p < 1.0F) {
    double sum = 0.0;
    std::size_t n = 0;
    while (n < kept_.size() && (n == 0 || sum < static_cast<double>(p.top_p) * total))
      sum += static_cast<double>(kept_[n++].score);
    kept_.resize(n);
  }
  if (p.min_p > 0.0F)  // the best candidate's weight is exactly 1
    std::erase_if(kept_, [&](const ScoredToken& t) { return t.score < std::min(1.0F, p.min_p); });
  total = 0.0;
  for (const ScoredToken& t : kept_) total += static_cast<double>(t.score);
  double left = random * total;
  for (const ScoredToken& t : kept_) {
    if (left < static_cast<double>(t.score)) return t.token;
    left -= static_cast<double>(t.score);
  }
  return kept_.back().token;
}

void Sampler::report(const SamplingParams& p, std::span<const float> logits, Sample& sample) {
  const ScoredToken best = best_of(logits);
  weigh(logits, best.score, 1.0F, weights_);
  const double norm = static_cast<double>(best.score) + std::log(weights_.total);
  const auto logprob = [&](float logit) {
    const double v = static_cast<double>(logit) - norm;
    return static_cast<float>(std::max(v, static_cast<double>(std::numeric_limits<float>::lowest())));
  };
  const float own = logits[static_cast<std::size_t>(sample.token)];
  sample.logprob = logprob(std::isnan(own) ? kImpossible : own);
  best_tokens(logits, static_cast<std::size_t>(std::clamp(p.top_logprobs, 0, kMaxTopLogprobs)), kept_);
  for (const ScoredToken& t : kept_) sample.top.push_back({t.token, logprob(t.score)});
}

Result<Sample> Sampler::sample(const SamplingParams& params, const SampleInput& input) {
  if (input.logits.empty()) return fail(ErrorCode::internal, "expected a row of logits, found none");
  const bool reports = params.logprobs || params.top_logprobs > 0;
  std::span<const float> logits = input.logits;
  // Infinities are looked for only where they would show: in the maximum.
  if (reports && best_of(logits).score > kLargest) logits = without_infinity(logits, clean_);
  std::span<const float> scores = adjusted(params, input, logits);
  ScoredToken best = best_of(scores);
  if (best.score > kLargest) {
    scores = without_infinity(scores, scores_);
    best = best_of(scores);
  }
  if (best.token < 0)
    return fail(ErrorCode::internal, "no token is possible at position {}: all {} logits are masked or not numbers",
                input.position, scores.size());
  Sample sample;
  sample.token = params.temperature > 0.0F ? draw(params, input, scores, best.score) : best.token;
  if (!reports) return sample;
  if (best_of(logits).token < 0)
    return fail(ErrorCode::internal, "the model's logits at position {} are not numbers", input.position);
  report(params, logits, sample);
  return sample;
}

Result<Sample> sample_token(const SamplingParams& params, const SampleInput& input) {
  Sampler sampler;
  return sampler.sample(params, input);
}

}  // namespace hp
