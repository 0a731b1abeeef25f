#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "base/counter_rng.h"
#include "engine/limits.h"

namespace hp {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();
/// A candidate this far below the best (after temperature) weighs less than the random number's last bit.
constexpr double kNegligible = 40.0;

struct Candidate {
  TokenId token;
  double weight;  ///< score, later exp(score - best)
};

bool better(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

std::vector<float> clean(std::span<const float> logits) {
  std::vector<float> out(logits.begin(), logits.end());
  for (float& v : out) {
    if (std::isnan(v)) v = kImpossible;
    if (v > std::numeric_limits<float>::max()) v = std::numeric_limits<float>::max();
  }
  return out;
}

bool in_range(TokenId t, const std::vector<float>& scores) {
  return t >= 0 && static_cast<std::size_t>(t) < scores.size();
}

void penalize(const SamplingParams& p, const SampleInput& in, std::vector<float>& scores) {
  if (p.repetition_penalty != 1.0F) {
    std::unordered_set<TokenId> seen(in.prompt.begin(), in.prompt.end());
    seen.insert(in.generated.begin(), in.generated.end());
    for (const TokenId t : seen) {
      if (!in_range(t, scores)) continue;
      float& s = scores[static_cast<std::size_t>(t)];
      s = s > 0.0F ? s / p.repetition_penalty : s * p.repetition_penalty;
    }
  }
  if (p.frequency_penalty != 0.0F || p.presence_penalty != 0.0F) {
    std::unordered_map<TokenId, std::int32_t> counts;
    for (const TokenId t : in.generated) ++counts[t];
    for (const auto& [t, n] : counts)
      if (in_range(t, scores))
        scores[static_cast<std::size_t>(t)] -= p.frequency_penalty * static_cast<float>(n) + p.presence_penalty;
  }
  for (const auto& [t, bias] : p.logit_bias)
    if (in_range(t, scores)) scores[static_cast<std::size_t>(t)] += bias;
}

void mask(const SampleInput& in, std::vector<float>& scores) {
  for (const TokenId t : in.forbidden)
    if (in_range(t, scores)) scores[static_cast<std::size_t>(t)] = kImpossible;
  if (in.allowed.empty()) return;
  for (std::size_t t = 0; t < scores.size(); ++t)
    if (t / 64 >= in.allowed.size() || ((in.allowed[t / 64] >> (t % 64)) & 1U) == 0) scores[t] = kImpossible;
}

TokenId argmax(const std::vector<float>& scores) {
  return static_cast<TokenId>(std::ranges::max_element(scores) - scores.begin());  // the first of equals
}

double log_sum_exp(const std::vector<float>& logits, float best) {
  double sum = 0.0;
  for (const float v : logits) sum += std::exp(static_cast<double>(v) - static_cast<double>(best));
  return static_cast<double>(best) + std::log(sum);
}

TokenId draw(const SamplingParams& p, const SampleInput& in, const std::vector<float>& scores, TokenId best_token) {
  const double temperature = static_cast<double>(p.temperature);
  const double best = static_cast<double>(scores[static_cast<std::size_t>(best_token)]);
  std::vector<Candidate> kept;
  for (std::size_t t = 0; t < scores.size(); ++t) {
    const double d = (static_cast<double>(scores[t]) - best) / temperature;
    if (d >= -kNegligible) kept.push_back({static_cast<TokenId>(t), std::exp(d)});
  }
  if (p.top_k > 0 && static_cast<std::size_t>(p.top_k) < kept.size()) {
    std::ranges::nth_element(kept, kept.begin() + p.top_k - 1, better);
    kept.resize(static_cast<std::size_t>(p.top_k));
  }
  if (p.top_p < 1.0F || p.top_k > 0) std::ranges::sort(kept, better);
  if (p.top_p < 1.0F) {
    double total = 0.0;
    for (const Candidate& c : kept) total += c.weight;
    double sum = 0.0;
    std::size_t n = 0;
    while (n < kept.size() && (n == 0 || sum < static_cast<double>(p.top_p) * total)) sum += kept[n++].weight;
    kept.resize(n);
  }
  if (p.min_p > 0.0F)  // the best candidate's weight is exactly 1
    std::erase_if(kept, [&](const Candidate& c) { return c.weight < std::min(1.0, static_cast<double>(p.min_p)); });
  double total = 0.0;
  for (const Candidate& c : kept) total += c.weight;
  double left = uniform_at(p.seed, in.position, in.choice) * total;
  for (const Candidate& c : kept) {
    if (left < c.weight) return c.token;
    left -= c.weight;
  }
  return kept.back().token;
}

void report(const SamplingParams& p, const std::vector<float>& logits, Sample& sample) {
  const TokenId best = argmax(logits);
  const double norm = log_sum_exp(logits, logits[static_cast<std::size_t>(best)]);
  const auto logprob = [&](TokenId t) {
    const double v = static_cast<double>(logits[static_cast<std::size_t>(t)]) - norm;
    return static_cast<float>(std::max(v, static_cast<double>(std::numeric_limits<float>::lowest())));
  };
  sample.logprob = logprob(sample.token);
  const auto want = static_cast<std::size_t>(std::clamp(p.top_logprobs, 0, kMaxTopLogprobs));
  if (want == 0) return;
  std::vector<Candidate> all(logits.size());
  for (std::size_t t = 0; t < logits.size(); ++t) all[t] = {static_cast<TokenId>(t), static_cast<double>(logits[t])};
  const auto n = std::min(want, all.size());
  std::ranges::partial_sort(all, all.begin() + static_cast<std::ptrdiff_t>(n), better);
  for (std::size_t i = 0; i < n; ++i) sample.top.push_back({all[i].token, logprob(all[i].token)});
}

}  // namespace

Result<Sample> sample_token(const SamplingParams& params, const SampleInput& input) {
  if (input.logits.empty()) return fail(ErrorCode::internal, "expected a row of logits, found none");
  const std::vector<float> logits = clean(input.logits);
  std::vector<float> scores = logits;
  penalize(params, input, scores);
  scores = clean(scores);
  mask(input, scores);
  const TokenId best = argmax(scores);
  if (scores[static_cast<std::size_t>(best)] == kImpossible)
    return fail(ErrorCode::internal, "no token is possible at position {}: all {} logits are masked or not numbers",
                input.position, scores.size());
  Sample sample;
  sample.token = params.temperature > 0.0F ? draw(params, input, scores, best) : best;
  if (params.logprobs || params.top_logprobs > 0) {
    if (logits[static_cast<std::size_t>(argmax(logits))] == kImpossible)
      return fail(ErrorCode::internal, "the model's logits at position {} are not numbers", input.position);
    report(params, logits, sample);
  }
  return sample;
}

}  // namespace hp
