#include "engine/scheduler.h"

#include <gtest/gtest.h>

namespace hp {
namespace {

using Ints = std::vector<std::int32_t>;

struct Case {
  const char* name;
  std::vector<RunningView> running;
  StepLimits limits;
  Ints tokens, preempt;
};

TEST(Scheduler, PlanTable) {
  const std::vector<Case> cases = {
      {"decodes before prefills, a prefill in chunks",
       {{{0, 0}, 40, 0, 0, 0}, {{0, 1}, 9, 8, 2, 2}},
       {10, 4, 20},
       {9, 1},
       {}},
      {"priority before arrival", {{{1, 0}, 8, 0, 0, 0}, {{0, 1}, 8, 0, 0, 0}}, {8, 4, 20}, {0, 8}, {}},
      {"first come first served", {{{0, 1}, 8, 0, 0, 0}, {{0, 0}, 8, 0, 0, 0}}, {8, 4, 20}, {0, 8}, {}},
      {"a prefill takes what blocks there are", {{{0, 0}, 40, 0, 0, 0}}, {64, 4, 3}, {12}, {}},
      {"the youngest gives way",
       {{{0, 0}, 9, 8, 2, 2}, {{0, 1}, 6, 5, 2, 2}, {{0, 2}, 7, 6, 2, 2}},
       {64, 4, 0},
       {1, 1, 0},
       {2}},
      {"the lowest priority gives way", {{{0, 5}, 9, 8, 2, 2}, {{3, 0}, 6, 5, 2, 2}}, {64, 4, 0}, {1, 0}, {1}},
      {"the worst itself waits", {{{0, 0}, 7, 6, 2, 2}, {{0, 1}, 9, 8, 2, 2}}, {64, 4, 0}, {1, 0}, {}},
  };
  for (const Case& c : cases) {
    const StepPlan plan = plan_step(c.running, c.limits);
    EXPECT_EQ(plan.tokens, c.tokens) << c.name;
    EXPECT_EQ(plan.preempt, c.preempt) << c.name;
  }
}

TEST(Scheduler, AdmitsOnlyWhatFitsWholly) {
  const StepLimits limits{.step_tokens = 16, .block_tokens = 4, .free_blocks = 6};
  const std::vector<RunningView> running{{{0, 0}, 8, 7, 2, 2}};
  StepPlan plan = plan_step(running, limits);
  EXPECT_EQ(plan.blocks_reserved, 1);  // the token that this step samples
  const RunningView fits{{0, 1}, 19, 0, 0, 0}, too_big{{0, 1}, 20, 0, 0, 0}, cached{{0, 1}, 20, 4, 1, 0};
  EXPECT_EQ(admit(fits, plan, limits), 15) << "the step's other token is the decode's";
  EXPECT_EQ(admit(too_big, plan, limits), 0);
  EXPECT_EQ(admit(cached, plan, limits), 15);
  book(fits, 15, limits, plan);
  EXPECT_EQ(admit(fits, plan, limits), 0);
}

}  // namespace
}  // namespace hp
