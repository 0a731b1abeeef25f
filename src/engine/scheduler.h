// What the next step runs: pure functions over plain state. Two halves, because a waiting sequence's cached prefix is
// only looked up when its turn has come: plan_step shares the step among running sequences, admit says whether the next
// waiting one joins in. A decode is a sequence with one pending token; nothing else tells it from a prefill.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

namespace hp {

/// Lower runs first: priority, then arrival (first come, first served; a preempted sequence keeps its place).
struct Rank {
  std::int32_t priority = 0;
  std::uint64_t arrival = 0;
  constexpr auto operator<=>(const Rank&) const = default;
};

struct RunningView {
  Rank rank;
  std::int32_t tokens = 0;    ///< known tokens
  std::int32_t computed = 0;  ///< of these, with KV written
  std::int32_t blocks = 0;    ///< KV blocks held
  std::int32_t freeable = 0;  ///< of these, what preempting it would free (blocks that nobody else holds)
};

struct StepLimits {
  std::int32_t step_tokens = 0;   ///< most tokens of a step
  std::int32_t block_tokens = 0;  ///< tokens per block
  std::int32_t free_blocks = 0;   ///< free or evictable
};

struct StepPlan {
  std::vector<std::int32_t> tokens;   ///< [running]: to run now; 0: waits this step
  std::vector<std::int32_t> preempt;  ///< indices: give their blocks back and wait again
  std::int32_t tokens_left = 0;
  std::int32_t blocks_left = 0;      ///< after the blocks of this step are taken
  std::int32_t blocks_reserved = 0;  ///< running sequences will still need these for tokens they know
};

/// Decodes first, then prefills in chunks, each in order of rank. When blocks run out, the worst-ranked sequence that
/// is worse than the one in need is preempted; one that is itself the worst waits. So the best-ranked always moves on.
StepPlan plan_step(std::span<const RunningView> running, const StepLimits& limits);

/// Tokens that a waiting sequence may run now beside `plan`, or 0: not yet. `candidate.blocks` are its cached ones.
/// Lets in only what fits wholly, so that admissions do not cause preemptions of their own.
std::int32_t admit(const RunningView& candidate, const StepPlan& plan, const StepLimits& limits);
/// Books an admission of `tokens` in the plan's totals.
void book(const RunningView& candidate, std::int32_t tokens, const StepLimits& limits, StepPlan& plan);

}  // namespace hp
