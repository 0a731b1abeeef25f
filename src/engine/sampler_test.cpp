#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "base/counter_rng.h"

namespace hp {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TokenId greedy(std::vector<float> logits, SamplingParams p = {}, std::vector<TokenId> prompt = {},
               std::vector<TokenId> generated = {}, std::vector<TokenId> forbidden = {}) {
  p.temperature = 0.0F;
  const auto s = sample_token(
      p, {.logits = logits, .prompt = prompt, .generated = generated, .forbidden = forbidden, .allowed = {}});
  return s ? s->token : -1;
}

TEST(Sampler, GreedyTable) {
  EXPECT_EQ(greedy({1, 3, 3, 2}), 1) << "ties go to the lowest id";
  EXPECT_EQ(greedy({NAN, -1, kInf, 2}), 2);
  EXPECT_EQ(greedy({NAN, NAN}), -1);
  EXPECT_EQ(greedy({-kInf, -5}), 1);
  EXPECT_EQ(greedy({4, 3}, {.repetition_penalty = 2.0F}, {0}), 1);
  EXPECT_EQ(greedy({-1, -1.5F}, {.repetition_penalty = 2.0F}, {}, {0}), 1);
  EXPECT_EQ(greedy({4, 3}, {.presence_penalty = 2.0F}, {0}), 0) << "presence looks at generated tokens only";
  EXPECT_EQ(greedy({4, 3}, {.presence_penalty = 2.0F}, {}, {0}), 1);
  EXPECT_EQ(greedy({4, 3}, {.frequency_penalty = 0.6F}, {}, {0}), 0);
  EXPECT_EQ(greedy({4, 3}, {.frequency_penalty = 0.6F}, {}, {0, 0}), 1);
  EXPECT_EQ(greedy({4, 3}, {.logit_bias = {{1, 2.0F}, {99, 5.0F}}}), 1);
  EXPECT_EQ(greedy({4, 3}, {}, {}, {}, {0}), 1);
}

TEST(Sampler, AConstraintIsObeyed) {
  const std::vector<float> logits{1, 2, 3, 4};
  const std::array<std::uint64_t, 1> allowed{0b0010};
  for (std::uint64_t i = 0; i < 50; ++i)
    EXPECT_EQ(sample_token(
                  {.seed = i},
                  {.logits = logits, .prompt = {}, .generated = {}, .forbidden = {}, .allowed = allowed, .position = i})
                  ->token,
              1);
}

double chi_square(const SamplingParams& base, const std::vector<float>& logits, const std::vector<double>& expected) {
  constexpr int kDraws = 20000;
  std::vector<int> counts(logits.size(), 0);
  SamplingParams p = base;
  p.seed = 11;
  for (int i = 0; i < kDraws; ++i)
    ++counts[static_cast<std::size_t>(sample_token(p, {.logits = logits,
                                                       .prompt = {},
                                                       .generated = {},
                                                       .forbidden = {},
                                                       .allowed = {},
                                                       .position = static_cast<std::uint64_t>(i)})
                                          ->token)];
  double sum = 0;
  for (std::size_t t = 0; t < logits.size(); ++t) {
    const double want = expected[t] * kDraws;
    if (want == 0.0) {
      EXPECT_EQ(counts[t], 0) << "token " << t;
      continue;
    }
    sum += (counts[t] - want) * (counts[t] - want) / want;
  }
  return sum;
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const auto l = [](double p) { return static_cast<float>(std::log(p)); };
  const std::vector<float> logits{l(0.1), l(0.4), l(0.2), l(0.3)};
  // 16.27 is the 0.1 % point of chi-square with 3 degrees of freedom.
  EXPECT_LT(chi_square({}, logits, {0.1, 0.4, 0.2, 0.3}), 16.27);
  EXPECT_LT(chi_square({.top_k = 2}, logits, {0, 4.0 / 7, 0, 3.0 / 7}), 16.27);
  EXPECT_LT(chi_square({.top_p = 0.75F}, logits, {0, 4.0 / 9, 2.0 / 9, 3.0 / 9}), 16.27);
  EXPECT_LT(chi_square({.min_p = 0.6F}, logits, {0, 4.0 / 7, 0, 3.0 / 7}), 16.27);
  EXPECT_LT(chi_square({.temperature = 0.5F}, logits, {0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3}), 16.27);
}

/// The definition, in doubles and with full sorts: what the quick passes must agree with.
TokenId slow_draw(const SamplingParams& p, const std::vector<float>& logits, std::uint64_t position) {
  struct Candidate {
    TokenId token;
    double weight;
  };
  const double best = static_cast<double>(*std::ranges::max_element(logits));
  std::vector<Candidate> all;
  for (std::size_t t = 0; t < logits.size(); ++t)
    all.push_back({static_cast<TokenId>(t),
                   std::exp((static_cast<double>(logits[t]) - best) / static_cast<double>(p.temperature))});
  if (p.top_k > 0 || p.top_p < 1.0F)
    std::ranges::stable_sort(all, [](const auto& a, const auto& b) { return a.weight > b.weight; });
  if (p.top_k > 0) all.resize(std::min(all.size(), static_cast<std::size_t>(p.top_k)));
  const auto total = [&] {
    double sum = 0;
    for (const Candidate& c : all) sum += c.weight;
    return sum;
  };
  const double whole = total();
  double sum = 0;
  std::size_t n = 0;
  while (n < all.size() && (n == 0 || sum < static_cast<double>(p.top_p) * whole)) sum += all[n++].weight;
  if (p.top_p < 1.0F) all.resize(n);
  std::erase_if(all, [&](const Candidate& c) { return c.weight < static_cast<double>(p.min_p); });
  double left = uniform_at(p.seed, position, 0) * total();
  for (const Candidate& c : all) {
    if (left < c.weight) return c.token;
    left -= c.weight;
  }
  return all.back().token;
}

TEST(Sampler, QuickPassesAgreeWithTheDefinition) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  Sampler sampler;
  int draws = 0, differing = 0;
  for (const std::size_t vocab : {1UL, 7UL, 64UL, 65UL, 1000UL, 5003UL}) {
    std::vector<float> logits(vocab);
    for (float& v : logits) v = normal(random);
    for (const SamplingParams& p :
         std::initializer_list<SamplingParams>{{},
                                               {.temperature = 0.3F},
                                               {.temperature = 1.9F},
                                               {.top_k = 1},
                                               {.top_k = 50},
                                               {.top_p = 0.9F},
                                               {.top_p = 0.01F},
                                               {.min_p = 0.05F},
                                               {.temperature = 0.7F, .top_k = 40, .top_p = 0.95F, .min_p = 0.02F}})
      for (std::uint64_t position = 0; position < 40; ++position) {
        SamplingParams seeded = p;
        seeded.seed = vocab;
        const auto s = sampler.sample(
            seeded,
            {.logits = logits, .prompt = {}, .generated = {}, .forbidden = {}, .allowed = {}, .position = position});
        ASSERT_TRUE(s);
        ++draws;
        if (s->token != slow_draw(seeded, logits, position)) ++differing;
      }
  }
  EXPECT_LE(differing, draws / 500);  // a draw may fall into the rounding between two tokens
}

TEST(Sampler, PaddingRowsAndEdgesOfBlocks) {
  // The only possible token stands last, alone in its block.
  std::vector<float> logits(129, -kInf);
  logits[128] = -3.0F;
  for (std::uint64_t i = 0; i < 20; ++i)
    EXPECT_EQ(
        sample_token({.seed = i},
                     {.logits = logits, .prompt = {}, .generated = {}, .forbidden = {}, .allowed = {}, .position = i})
            ->token,
        128);
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  const std::vector<float> logits{0, std::log(3.0F)};
  const auto s = sample_token({.temperature = 0.0F, .logit_bias = {{0, 100.0F}}, .top_logprobs = 2, .logprobs = true},
                              {.logits = logits, .prompt = {}, .generated = {}, .forbidden = {}, .allowed = {}});
  ASSERT_TRUE(s);
  EXPECT_EQ(s->token, 0);
  EXPECT_NEAR(s->logprob, std::log(0.25), 1e-6);
  ASSERT_EQ(s->top.size(), 2U);
  EXPECT_EQ(s->top[0].token, 1);
  EXPECT_NEAR(s->top[0].logprob, std::log(0.75), 1e-6);
}

}  // namespace
}  // namespace hp
