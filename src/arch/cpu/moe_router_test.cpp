#include "arch/cpu/moe_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace hp {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

struct Routed {
  std::vector<std::int32_t> experts;
  std::vector<float> weights;
};

Routed route(const MoeConfig& c, std::vector<float> logits, const std::vector<float>& bias = {}) {
  Routed out{std::vector<std::int32_t>(static_cast<std::size_t>(c.experts_per_token)),
             std::vector<float>(static_cast<std::size_t>(c.experts_per_token))};
  std::vector<float> choice(logits.size());
  route_token(c, bias, logits, choice, out.experts, out.weights);
  return out;
}

TEST(MoeRouter, GreedySoftmaxInAscendingOrder) {
  const Routed r = route({.experts = 4, .experts_per_token = 2, .weight_scale = 2.0F}, {0.0F, 3.0F, 1.0F, 2.0F});
  EXPECT_THAT(r.experts, ElementsAre(1, 3));
  const float sum = std::exp(0.0F) + std::exp(3.0F) + std::exp(1.0F) + std::exp(2.0F);
  EXPECT_THAT(r.weights,
              ElementsAre(FloatNear(2 * std::exp(3.0F) / sum, 1e-6F), FloatNear(2 * std::exp(2.0F) / sum, 1e-6F)));
}

TEST(MoeRouter, EqualScoresGoToTheLowerExpert) {
  const Routed r = route({.experts = 5, .experts_per_token = 3}, {1.0F, 1.0F, 1.0F, 1.0F, 1.0F});
  EXPECT_THAT(r.experts, ElementsAre(0, 1, 2));
}

TEST(MoeRouter, GroupLimitedGreedyTakesGroupsByTheirBest) {
  // Groups {0,1} {2,3} {4,5}: bests 5, 4, 3. Two groups: expert 4 falls although it beats 1.
  const MoeConfig c{.experts = 6,
                    .experts_per_token = 3,
                    .groups = 3,
                    .groups_per_token = 2,
                    .group_score = MoeConfig::GroupScore::max};
  EXPECT_THAT(route(c, {5.0F, 0.0F, 4.0F, 1.0F, 3.0F, 3.0F}).experts, ElementsAre(0, 2, 3));
}

TEST(MoeRouter, BiasSelectsAndDoesNotWeigh) {
  // Groups by the sum of their best two biased scores; normalized weights of the plain sigmoid, scaled.
  const MoeConfig c{.experts = 4,
                    .experts_per_token = 2,
                    .groups = 2,
                    .groups_per_token = 1,
                    .scoring = MoeConfig::Scoring::sigmoid,
                    .group_score = MoeConfig::GroupScore::top2_sum,
                    .normalize_weights = true,
                    .has_score_bias = true,
                    .weight_scale = 2.5F};
  const Routed r = route(c, {4.0F, 4.0F, 0.0F, 1.0F}, {0.0F, 0.0F, 1.0F, 1.0F});
  EXPECT_THAT(r.experts, ElementsAre(2, 3));
  const float a = 0.5F, b = 1.0F / (1.0F + std::exp(-1.0F));
  EXPECT_THAT(r.weights, ElementsAre(FloatNear(2.5F * a / (a + b), 1e-6F), FloatNear(2.5F * b / (a + b), 1e-6F)));
}

TEST(MoeRouter, NegativeBiasedScoresStayInTheirGroups) {
  // DeepSeek's own gate strikes other groups out with minus infinity, not with zero.
  const MoeConfig c{.experts = 4,
                    .experts_per_token = 2,
                    .groups = 2,
                    .groups_per_token = 1,
                    .scoring = MoeConfig::Scoring::sigmoid,
                    .group_score = MoeConfig::GroupScore::top2_sum,
                    .has_score_bias = true};
  EXPECT_THAT(route(c, {0.0F, 0.0F, 0.0F, 0.0F}, {-2.0F, -2.0F, -1.0F, -1.5F}).experts, ElementsAre(2, 3));
}

TEST(MoeRouter, NotANumberStillGivesExperts) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(route({.experts = 4, .experts_per_token = 2}, {nan, nan, nan, nan}).experts, ElementsAre(0, 1));
}

}  // namespace
}  // namespace hp
