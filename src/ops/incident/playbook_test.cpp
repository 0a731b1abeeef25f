#include <gtest/gtest.h>

#include "ops/incident/playbook.h"

namespace hp::ops {
namespace {

PlaybookSet shipped() {
  auto set = load_playbooks();
  EXPECT_TRUE(set.has_value());
  return *set;
}

/// Runs until nothing comes, answering every order with `ok`; the actions in order, undos with a minus.
std::vector<std::string> drive(PlaybookRun& run, std::int64_t from, std::int64_t to, const Situation& situation,
                               bool ok = true) {
  std::vector<std::string> out;
  for (std::int64_t t = from; t <= to; t += 1000)
    while (const auto order = run.next(t, situation)) {
      out.push_back((order->undo ? "-" : "") + order->action + " " + order->target);
      const bool changes = order->action != "bundle" && order->action != "notice" && order->action != "restart_node";
      run.finished(*order, ok, {.undo_action = ok && changes ? order->action + "_back" : "", .undo_argument = "was"},
                   t);
    }
  return out;
}

TEST(Playbook, LevelOneInItsOrderAndBackAfterTheRecovery) {
  const PlaybookSet set = shipped();
  const Playbook* book = set.find(1, "node_down");
  ASSERT_NE(book, nullptr);
  PlaybookRun run(*book, "node1");
  const Situation down{.firing = true, .nodes = {"node0", "node2"}};
  EXPECT_EQ(drive(run, 0, 10'000, down),
            (std::vector<std::string>{"move_traffic node1", "bundle node1", "notice ", "restart_node node1"}));
  EXPECT_EQ(run.phase(), PlaybookRun::Phase::waiting);
  EXPECT_EQ(drive(run, 20'000, 30'000, {.firing = false, .nodes = {}}),
            (std::vector<std::string>{"-move_traffic_back node1"}));
  EXPECT_EQ(run.phase(), PlaybookRun::Phase::done);
}

TEST(Playbook, LevelTwoGoesOnOnlyWhileItIsSlowAndUndoesBackwards) {
  const PlaybookSet set = shipped();
  PlaybookRun run(*set.find(2, "latency_p99"), "cluster");
  const Situation slow{.firing = true, .nodes = {"a", "b"}};
  EXPECT_EQ(drive(run, 0, 29'000, slow), (std::vector<std::string>{"set_step_tokens a", "set_step_tokens b"}))
      << "time for the first step to help";
  EXPECT_EQ(drive(run, 30'000, 31'000, slow), (std::vector<std::string>{"use_variant "}));
  EXPECT_EQ(drive(run, 32'000, 70'000, {.firing = false, .nodes = {"a", "b"}}),
            (std::vector<std::string>{"-use_variant_back ", "-set_step_tokens_back b", "-set_step_tokens_back a"}));
  EXPECT_EQ(run.phase(), PlaybookRun::Phase::done);
}

TEST(Playbook, WhatComesBackWhileItIsUndoneIsDoneAgain) {
  const PlaybookSet set = shipped();
  PlaybookRun run(*set.find(2, "latency_p99"), "cluster");
  const Situation slow{.firing = true, .nodes = {"a"}}, good{.firing = false, .nodes = {"a"}};
  drive(run, 0, 31'000, slow);
  EXPECT_EQ(drive(run, 32'000, 32'000, good), (std::vector<std::string>{"-use_variant_back "}));
  EXPECT_EQ(drive(run, 33'000, 33'000, slow), (std::vector<std::string>{"use_variant "}));
}

TEST(Playbook, AStepThatFailsIsNotUndoneAndDoesNotStopTheOthers) {
  const PlaybookSet set = shipped();
  PlaybookRun run(*set.find(1, "node_down"), "node1");
  EXPECT_EQ(drive(run, 0, 5'000, {.firing = true, .nodes = {}}, false).size(), 4u);
  EXPECT_TRUE(drive(run, 6'000, 9'000, {.firing = false, .nodes = {}}).empty());
  EXPECT_EQ(run.phase(), PlaybookRun::Phase::done);
}

TEST(Playbook, AStepThatFailedEverywhereIsNotWaitedFor) {
  const PlaybookSet set = shipped();
  PlaybookRun run(*set.find(2, "latency_p99"), "cluster");
  EXPECT_EQ(drive(run, 0, 0, {.firing = true, .nodes = {"a", "b"}}, false),
            (std::vector<std::string>{"set_step_tokens a", "set_step_tokens b", "use_variant ", "scale_out "}));
}

TEST(Playbook, UndoOfAnEarlierProcess) {
  const Playbook nothing{.name = "x", .rules = {}, .undo_pause_ms = 1000, .steps = {}};
  PlaybookRun run = PlaybookRun::undo_only(nothing, "cluster",
                                           {{.undo_action = "a", .target = "n", .undo_argument = "1"},
                                            {.undo_action = "b", .target = "n", .undo_argument = "2"}});
  EXPECT_EQ(drive(run, 0, 5'000, {}), (std::vector<std::string>{"-b n", "-a n"}));
}

TEST(Playbook, OwnOnesReplaceByNameAndErrorsNameTheKey) {
  const auto own = load_playbooks(
      "[[playbook]]\nname=\"level1\"\nlevel=1\n[[playbook.step]]\naction=\"bundle\"\n"
      "[[limit]]\naction=\"bundle\"\nper=\"cluster\"\ncount=1\nwindow_s=5\n",
      "own.toml");
  ASSERT_TRUE(own.has_value()) << own.error().message;
  EXPECT_EQ(own->find(1, "node_down")->steps.size(), 1u);
  const auto message = [](std::string_view toml) { return load_playbooks(toml, "own.toml").error().message; };
  EXPECT_EQ(message("[[playbook]]\nname=\"x\"\nlevel=1\n[[playbook.step]]\nacton=\"bundle\"\n"),
            "own.toml: playbook x: 'action' is missing");
  EXPECT_NE(message("[[playbook]]\nname=\"x\"\nlevel=3\n").find("expected a number from 1 to 2"), std::string::npos);
  EXPECT_NE(message("[[limits]]\n").find("did you mean 'limit'"), std::string::npos);
}

}  // namespace
}  // namespace hp::ops
