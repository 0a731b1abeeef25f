#include "arch/cpu/moe_router.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "model/limits.h"

namespace hp {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

void score(MoeConfig::Scoring scoring, std::span<float> logits) {
  if (scoring == MoeConfig::Scoring::sigmoid) {
    for (float& v : logits) v = 1.0F / (1.0F + std::exp(-v));
    return;
  }
  const float top = *std::max_element(logits.begin(), logits.end());
  float sum = 0.0F;
  for (float& v : logits) sum += v = std::exp(v - top);
  for (float& v : logits) v /= sum;
}

float group_score(MoeConfig::GroupScore rule, std::span<const float> group) {
  float best = kMinusInf, second = kMinusInf;
  for (const float v : group) {
    if (v > best) {
      second = best;
      best = v;
    } else if (v > second) {
      second = v;
    }
  }
  return rule == MoeConfig::GroupScore::top2_sum ? best + second : best;
}

/// Strikes out every group but the best ones. Groups are few: each counts those better than itself.
void limit_groups(const MoeConfig& c, std::span<float> choice) {
  std::array<float, limits::kMaxExpertGroups> scores{};
  const auto groups = static_cast<std::size_t>(c.groups), size = choice.size() / groups;
  for (std::size_t g = 0; g < groups; ++g) scores[g] = group_score(c.group_score, choice.subspan(g * size, size));
  for (std::size_t g = 0; g < groups; ++g) {
    std::int32_t better = 0;
    for (std::size_t h = 0; h < groups; ++h)
      better += static_cast<std::int32_t>(scores[h] > scores[g] || (scores[h] == scores[g] && h < g));
    if (better >= c.groups_per_token) std::ranges::fill(choice.subspan(g * size, size), kMinusInf);
  }
}

/// The best expert that is not among those taken already, the lower one of equals; NaN loses against everything.
std::int32_t best_of(std::span<const float> choice, std::span<const std::int32_t> taken) {
  std::int32_t best = -1;
  for (std::size_t e = 0; e < choice.size(); ++e) {
    const auto id = static_cast<std::int32_t>(e);
    if (best >= 0 && !(choice[e] > choice[static_cast<std::size_t>(best)])) continue;
    if (std::ranges::find(taken, id) == taken.end()) best = id;
  }
  return best;
}

}  // namespace

void route_token(const MoeConfig& c, std::span<const float> bias, std::span<float> scores, std::span<float> choice,
                 std::span<std::int32_t> experts, std::span<float> weights) {
  score(c.scoring, scores);
  for (std::size_t e = 0; e < scores.size(); ++e) choice[e] = bias.empty() ? scores[e] : scores[e] + bias[e];
  if (c.group_score != MoeConfig::GroupScore::none) limit_groups(c, choice);
  for (std::size_t i = 0; i < experts.size(); ++i) experts[i] = best_of(choice, experts.first(i));
  std::ranges::sort(experts);
  float sum = 0.0F;
  for (std::size_t i = 0; i < experts.size(); ++i) sum += weights[i] = scores[static_cast<std::size_t>(experts[i])];
  const float scale = c.normalize_weights ? c.weight_scale / (sum + 1e-20F) : c.weight_scale;
  for (float& w : weights) w *= scale;
}

}  // namespace hp
