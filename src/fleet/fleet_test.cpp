#include "fleet/fleet.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <thread>

#include "base/log.h"

namespace hp::fleet {
namespace {
using namespace std::chrono_literals;

TEST(RestartPolicy, WaitsLongerForAProcessThatKeepsDyingAndForgetsAfterAStableLife) {
  RestartPolicy policy;
  TimePoint now{};
  Duration before{};
  for (int i = 0; i < 12; ++i) {
    policy.on_start(now);
    now += 1s;
    const Duration pause = policy.on_exit(now) - now;
    EXPECT_GE(pause, before);
    EXPECT_LE(pause, 30s);
    before = pause;
  }
  EXPECT_EQ(before, 30s);
  EXPECT_EQ(policy.young_deaths(), 12);
  policy.on_start(now);
  now += 2min;
  EXPECT_EQ(policy.on_exit(now) - now, 100ms);
  EXPECT_EQ(policy.young_deaths(), 0);
}

class FleetTest : public testing::Test {
 protected:
  void SetUp() override { log::configure({.level = log::Level::off}); }
  static std::vector<ChildSpec> shells(const std::string& script, int count) {
    std::vector<ChildSpec> all;
    for (int i = 0; i < count; ++i)
      all.push_back({.name = fmt::format("n{}", i), .command = {"/bin/sh", "-c", script}});
    return all;
  }
  template <typename Condition>
  bool eventually(Fleet& fleet, Condition condition) {
    for (int i = 0; i < 12'000 && !condition(); ++i) {
      fleet.tick();
      std::this_thread::sleep_for(10ms);
    }
    return condition();
  }
  SteadyClock clock_;
  MetricsRegistry metrics_;
};

TEST_F(FleetTest, AKilledChildIsBackAndAllEndWhenAsked) {
  Fleet fleet(shells("exec sleep 60", 2), clock_, metrics_);
  fleet.tick();
  const auto first = fleet.pids();
  ASSERT_GT(first[0], 0);
  ASSERT_GT(first[1], 0);
  ::kill(first[0], SIGKILL);
  EXPECT_TRUE(eventually(fleet, [&] { return fleet.pids()[0] > 0 && fleet.pids()[0] != first[0]; }));
  EXPECT_EQ(fleet.pids()[1], first[1]);
  fleet.stop(5s);
  EXPECT_EQ(fleet.pids(), (std::vector<pid_t>{-1, -1}));
  EXPECT_NE(::kill(first[1], 0), 0);
  fleet.tick();
  EXPECT_EQ(fleet.pids()[0], -1) << "nothing starts after stop()";
}

TEST_F(FleetTest, AsManyRunAsAreWanted) {
  Fleet fleet(shells("exec sleep 60", 3), clock_, metrics_);
  const auto running = [&] { return std::ranges::count_if(fleet.pids(), [](pid_t p) { return p > 0; }); };
  fleet.want(1);
  fleet.tick();
  EXPECT_EQ(running(), 1);
  const pid_t first = fleet.pids()[0];
  fleet.want(3);
  fleet.tick();
  EXPECT_EQ(running(), 3) << "up at once";
  fleet.want(2);
  EXPECT_TRUE(eventually(fleet, [&] { return running() == 2; }));
  EXPECT_EQ(fleet.pids()[2], -1) << "the last one leaves and is not started again";
  EXPECT_EQ(metrics_.counter("homeport_fleet_deaths_total", "").value(), 0) << "asked for, not a death";
  fleet.want(9);
  fleet.tick();
  EXPECT_EQ(running(), 3) << "no more than there are";
  EXPECT_EQ(fleet.pids()[0], first) << "who was wanted all the time never stopped";
  fleet.stop(5s);
}

TEST_F(FleetTest, ARestartThatSomebodyAskedForIsNoDeath) {
  Fleet fleet(shells("exec sleep 60", 2), clock_, metrics_);
  fleet.tick();
  for (const bool hard : {false, true}) {
    const auto before = fleet.pids();
    ASSERT_TRUE(fleet.restart("n1", hard));
    EXPECT_TRUE(eventually(fleet, [&] { return fleet.pids()[1] > 0 && fleet.pids()[1] != before[1]; })) << hard;
    EXPECT_EQ(fleet.pids()[0], before[0]);
  }
  EXPECT_EQ(fleet.children()[1].deaths, 0u);
  EXPECT_EQ(metrics_.counter("homeport_fleet_deaths_total", "").value(), 0);
  const Status unknown = fleet.restart("n7", true);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message, "the fleet has no node 'n7'");
  fleet.stop(5s);
}

TEST_F(FleetTest, ARestartReachesAFrozenChildAndOneThatWaits) {
  Fleet fleet(shells("exec sleep 60", 1), clock_, metrics_);
  fleet.tick();
  const pid_t frozen = fleet.pids()[0];
  ASSERT_EQ(::kill(frozen, SIGSTOP), 0);
  ASSERT_TRUE(fleet.restart("n0", true));
  EXPECT_TRUE(eventually(fleet, [&] { return fleet.pids()[0] > 0 && fleet.pids()[0] != frozen; }));
  fleet.stop(5s);
  Fleet failing(shells("exit 3", 1), clock_, metrics_, {.first = 10min, .longest = 10min});
  EXPECT_TRUE(eventually(failing, [&] { return failing.children()[0].deaths == 1; }));
  const auto starts = [&] { return metrics_.counter("homeport_fleet_starts_total", "").value(); };
  const double before = starts();
  failing.tick();
  EXPECT_EQ(starts(), before) << "its pause is long";
  ASSERT_TRUE(failing.restart("n0", false));
  failing.tick();
  EXPECT_EQ(starts(), before + 1) << "a person does not wait for it";
}

TEST_F(FleetTest, ACrashLoopBacksOffAndIsSeen) {
  Fleet fleet(shells("exit 3", 1), clock_, metrics_, {.first = 10ms, .longest = 40ms});
  EXPECT_TRUE(eventually(fleet, [&] { return fleet.hopeless(4); }));
  Fleet missing({{.name = "x", .command = {"/does/not/exist"}}}, clock_, metrics_, {.first = 1ms});
  EXPECT_TRUE(eventually(missing, [&] { return missing.hopeless(2); }));
  Fleet refusing(shells("exit 1", 2), clock_, metrics_, {.first = 5s});
  EXPECT_TRUE(eventually(refusing, [&] { return refusing.gave_up(); }));
  Fleet killed(shells("kill -9 $$", 1), clock_, metrics_, {.first = 1ms});
  EXPECT_TRUE(eventually(killed, [&] { return killed.hopeless(2); }));
  EXPECT_FALSE(killed.gave_up()) << "a killed process may live the next time";
}

TEST_F(FleetTest, AChildThatIgnoresSigtermIsKilled) {
  const std::string trapped = fmt::format("{}/hp_fleet_test_{}", testing::TempDir(), ::getpid());
  Fleet fleet(shells("trap '' TERM; : > " + trapped + "; while true; do sleep 0.05; done", 1), clock_, metrics_);
  ASSERT_TRUE(eventually(fleet, [&] { return std::filesystem::exists(trapped); }));
  const pid_t child = fleet.pids()[0];
  fleet.stop(300ms);
  EXPECT_EQ(fleet.pids()[0], -1);
  EXPECT_NE(::kill(child, 0), 0);
  std::filesystem::remove(trapped);
}

TEST(DescribeExit, SaysWhatHappened) {
  EXPECT_EQ(describe_exit(SIGKILL), "signal 9 (Killed)");
  EXPECT_EQ(describe_exit(1 << 8), "exit code 1");
  EXPECT_NE(describe_exit(127 << 8).find("could not be started"), std::string::npos);
}

}  // namespace
}  // namespace hp::fleet
