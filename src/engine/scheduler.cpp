#include "engine/scheduler.h"

#include <algorithm>
#include <numeric>

namespace hp {
namespace {

std::int32_t blocks_for(std::int32_t tokens, std::int32_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

/// Blocks beyond those held, for `tokens` positions in all.
std::int32_t more_blocks(const RunningView& s, std::int32_t tokens, const StepLimits& limits) {
  return std::max(0, blocks_for(tokens, limits.block_tokens) - s.blocks);
}

/// The worst-ranked sequence worse than `self` that still holds blocks, or -1.
std::int32_t victim_for(std::span<const RunningView> running, const std::vector<bool>& gone, std::size_t self) {
  std::int32_t worst = -1;
  for (std::size_t i = 0; i < running.size(); ++i) {
    if (gone[i] || running[i].rank <= running[self].rank) continue;
    if (worst < 0 || running[static_cast<std::size_t>(worst)].rank < running[i].rank)
      worst = static_cast<std::int32_t>(i);
  }
  return worst;
}

}  // namespace

StepPlan plan_step(std::span<const RunningView> running, const StepLimits& limits) {
  StepPlan plan{.tokens = std::vector<std::int32_t>(running.size(), 0),
                .preempt = {},
                .tokens_left = limits.step_tokens,
                .blocks_left = limits.free_blocks};
  std::vector<bool> gone(running.size(), false);
  std::vector<std::size_t> order(running.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto pending = [&](std::size_t i) { return running[i].tokens - running[i].computed; };
  const auto before = [&](std::size_t a, std::size_t b) {
    const bool prefill_a = pending(a) > 1, prefill_b = pending(b) > 1;
    return prefill_a != prefill_b ? prefill_b : running[a].rank < running[b].rank;
  };
  if (!std::ranges::is_sorted(order, before)) std::ranges::sort(order, before);  // mostly they came in this order
  for (const std::size_t i : order) {
    if (gone[i]) continue;
    const RunningView& s = running[i];
    const std::int32_t want = std::min(pending(i), plan.tokens_left);
    if (want <= 0) continue;
    const auto room = [&] { return (s.blocks + plan.blocks_left) * limits.block_tokens - s.computed; };
    while (room() < 1) {
      const std::int32_t victim = victim_for(running, gone, i);
      if (victim < 0) break;
      const auto v = static_cast<std::size_t>(victim);
      gone[v] = true;
      plan.preempt.push_back(victim);
      plan.blocks_left += running[v].freeable;
      if (plan.tokens[v] > 0) plan.blocks_left += more_blocks(running[v], running[v].computed + plan.tokens[v], limits);
      plan.tokens_left += plan.tokens[v];
      plan.tokens[v] = 0;
    }
    const std::int32_t n = std::min(want, room());
    if (n <= 0) continue;
    plan.tokens[i] = n;
    plan.tokens_left -= n;
    plan.blocks_left -= more_blocks(s, s.computed + n, limits);
  }
  for (std::size_t i = 0; i < running.size(); ++i)
    if (!gone[i])
      plan.blocks_reserved += more_blocks(running[i], running[i].tokens + 1, limits) -
                              more_blocks(running[i], running[i].computed + plan.tokens[i], limits);
  return plan;
}

std::int32_t admit(const RunningView& candidate, const StepPlan& plan, const StepLimits& limits) {
  if (plan.tokens_left <= 0 || !plan.preempt.empty()) return 0;
  if (more_blocks(candidate, candidate.tokens + 1, limits) > plan.blocks_left - plan.blocks_reserved) return 0;
  return std::min(candidate.tokens - candidate.computed, plan.tokens_left);
}

void book(const RunningView& candidate, std::int32_t tokens, const StepLimits& limits, StepPlan& plan) {
  const std::int32_t now = more_blocks(candidate, candidate.computed + tokens, limits);
  plan.tokens_left -= tokens;
  plan.blocks_left -= now;
  plan.blocks_reserved += more_blocks(candidate, candidate.tokens + 1, limits) - now;
}

}  // namespace hp
