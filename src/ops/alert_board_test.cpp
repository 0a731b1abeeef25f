#include "ops/alert_board.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ops/limits.h"

namespace hp::ops {
namespace {

struct Bench {
  AlertBoard board{*load_rules("[kv_usage]\nfor_s = 2\nclear_for_s = 2\n", "test")};
  std::int64_t second = 1'000;
  std::vector<std::string> nodes{"a", "b"};

  std::vector<AlertChange> round(const std::vector<SignalSample>& signals) {
    ++second;
    return board.round({.at_ms = second * 1000, .wall_ms = 1'700'000'000'000 + second * 1000}, signals,
                       [this](std::string_view instance) {
                         return instance == "cluster" ||
                                std::ranges::any_of(nodes, [&](const auto& n) { return instance.starts_with(n); });
                       });
  }
};

TEST(AlertBoard, KeepsInstancesApart) {
  Bench b;
  EXPECT_EQ(b.round({{"kv_usage_ratio", "a", 0.95}, {"kv_usage_ratio", "b", 0.2}}).size(), 1u) << "a is pending";
  b.round({{"kv_usage_ratio", "a", 0.95}, {"kv_usage_ratio", "b", 0.95}});
  const auto changes = b.round({{"kv_usage_ratio", "a", 0.96}, {"kv_usage_ratio", "b", 0.95}});
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].rule->id, "kv_usage");
  EXPECT_EQ(changes[0].instance, "a");
  EXPECT_EQ(changes[0].to, AlertPhase::firing);
  EXPECT_EQ(changes[0].value, 0.96);
  EXPECT_TRUE(b.board.firing("kv_usage", "a"));
  EXPECT_FALSE(b.board.firing("kv_usage", "b"));
  EXPECT_FALSE(b.board.firing("disk", "a"));
  const auto alerts = b.board.alerts();
  ASSERT_EQ(alerts.size(), 2u);
  EXPECT_EQ(alerts[0].phase, AlertPhase::firing);
  EXPECT_EQ(alerts[0].since_ms, 1'700'000'000'000 + b.second * 1000);
  EXPECT_EQ(alerts[0].en, "KV cache in use above 90 %");
  EXPECT_EQ(alerts[1].phase, AlertPhase::pending);
}

TEST(AlertBoard, SilenceIsNotRecovery) {
  Bench b;
  for (int i = 0; i < 3; ++i) b.round({{"kv_usage_ratio", "a", 0.95}});
  ASSERT_TRUE(b.board.firing("kv_usage", "a"));
  for (int i = 0; i < 300; ++i) EXPECT_TRUE(b.round({}).empty());
  EXPECT_TRUE(b.board.firing("kv_usage", "a"));
}

TEST(AlertBoard, TheAlertsOfANodeThatIsGoneEndAndCalmOnesCostNothing) {
  Bench b;
  for (int i = 0; i < 3; ++i)
    b.round({{"kv_usage_ratio", "a", 0.95}, {"gpu_memory_used_ratio", "b/gpu3", 0.95}, {"kv_usage_ratio", "b", 0.1}});
  EXPECT_EQ(b.board.alerts().size(), 2u) << "a fires, a GPU of b is pending, the calm one is not kept";
  b.nodes.clear();
  const auto changes = b.round({});
  ASSERT_EQ(changes.size(), 1u) << "only what fired has an end to tell";
  EXPECT_EQ(changes[0].to, AlertPhase::inactive);
  EXPECT_TRUE(b.board.alerts().empty());
}

TEST(AlertBoard, IsBounded) {
  Bench b;
  std::vector<SignalSample> signals;
  for (std::size_t i = 0; i < limits::kMaxAlertSeries + 7; ++i)
    signals.push_back({"kv_usage_ratio", "a" + std::to_string(i), 0.99});
  b.round(signals);
  EXPECT_EQ(b.board.alerts().size(), limits::kMaxAlertSeries);
  EXPECT_EQ(b.board.refused(), 7u);
}

}  // namespace
}  // namespace hp::ops
