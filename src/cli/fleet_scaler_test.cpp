#include "cli/fleet_scaler.h"

#include <gtest/gtest.h>

namespace hp::cli {
namespace {

using std::chrono::seconds;

planner::ScalingPolicy policy() {
  return {.min_replicas = 1,
          .max_replicas = 4,
          .replica_rps = 1e3,
          .ttft_target_s = 2,
          .down_window_s = 60,
          .down_step_s = 30};
}

gateway::GatewayLoad load(double requests, double waiting, std::vector<std::uint64_t> first_tokens = {0, 0, 0}) {
  return {
      .requests = requests, .waiting = waiting, .first_token_bounds = {1, 4}, .first_tokens = std::move(first_tokens)};
}

TEST(FleetScaler, QuantileOfWhatCameBetween) {
  const std::vector<double> bounds = {1, 4};
  EXPECT_EQ(quantile99(bounds, std::vector<std::uint64_t>{5, 5, 5}, std::vector<std::uint64_t>{5, 5, 5}), 0);
  EXPECT_NEAR(quantile99(bounds, std::vector<std::uint64_t>{5, 5, 5}, std::vector<std::uint64_t>{105, 105, 105}), 0.99,
              1e-12);
  EXPECT_NEAR(quantile99(bounds, std::vector<std::uint64_t>{0, 0, 0}, std::vector<std::uint64_t>{0, 100, 100}), 3.97,
              1e-12);
  EXPECT_EQ(quantile99(bounds, std::vector<std::uint64_t>{0, 0, 0}, std::vector<std::uint64_t>{0, 0, 9}), 4)
      << "beyond the last";
}

TEST(FleetScaler, AQueueStartsANodeAtOnceAndQuietEndsItLater) {
  FleetScaler scaler(policy(), 8);
  TimePoint now{};
  EXPECT_EQ(scaler.decide(now, load(0, 0), {.ready = 1, .wanted = 1}), std::nullopt);
  EXPECT_EQ(scaler.decide(now + seconds(1), load(50, 40), {.ready = 1, .wanted = 1}), std::nullopt)
      << "every five seconds";
  now += seconds(5);
  EXPECT_EQ(scaler.decide(now, load(50, 40), {.ready = 1, .wanted = 1}), 2);
  now += seconds(5);
  EXPECT_EQ(scaler.decide(now, load(50, 40), {.ready = 1, .wanted = 2}), std::nullopt) << "one is on its way";
  EXPECT_EQ(scaler.signals().starting, 1);
  std::optional<int> want;
  TimePoint quiet = now;
  for (; !want && now - quiet < seconds(600); now += seconds(5))
    want = scaler.decide(now, load(50, 0), {.ready = 2, .wanted = 2});
  EXPECT_EQ(want, 1);
  EXPECT_GE(now - quiet, seconds(45));
}

TEST(FleetScaler, FullSlotsAndSlowFirstTokensAreReasonsToo) {
  FleetScaler full(policy(), 8);
  EXPECT_EQ(full.decide(TimePoint{}, load(9, 0), {.ready = 1, .wanted = 1, .requests = 8}), 2);
  FleetScaler slow(policy(), 8);
  slow.decide(TimePoint{}, load(9, 0), {.ready = 2, .wanted = 2});
  EXPECT_EQ(slow.decide(TimePoint{} + seconds(5), load(99, 0, {0, 90, 90}), {.ready = 2, .wanted = 2}), 3);
  EXPECT_GT(slow.signals().ttft_p99_s, 2);
  EXPECT_NEAR(slow.signals().arrivals_per_s, 18, 1e-9);
}

}  // namespace
}  // namespace hp::cli
