#include "base/team_size.h"

#include <gtest/gtest.h>

namespace hp {
namespace {

using Seconds = TeamSize::Seconds;

/// Runs of 10 ms on a machine where n members do `rate(n)` members' worth of work; gives the members at the end.
template <typename Rate>
int settle(TeamSize& size, Seconds& now, Seconds time, const Rate& rate) {
  for (const Seconds end = now + time; now < end;) {
    const Seconds span{0.01};
    now += span;
    size.ran(now, span, rate(size.members()) * span);
  }
  return size.members();
}

double free_cores(int members) {
  return 0.9 * members;
}

TEST(TeamSize, AQuietMachineKeepsAll) {
  TeamSize size(8);
  Seconds now{};
  for (int i = 0; i < 100; ++i) ASSERT_EQ(settle(size, now, Seconds{0.1}, free_cores), 8);
}

TEST(TeamSize, WaitingThatFewerMembersDoNotCureKeepsAllMostOfTheTime) {
  TeamSize size(8);
  Seconds now{};
  int all = 0;
  for (int i = 0; i < 600; ++i) all += settle(size, now, Seconds{0.1}, [](int n) { return 0.5 * n; }) == 8 ? 1 : 0;
  EXPECT_GT(all, 580);
}

// One core of eight is taken half of the time: with it, all wait for its member.
TEST(TeamSize, LeavesACoreThatOthersUse) {
  const auto rate = [](int n) { return n > 7 ? 0.5 * n : 0.9 * n; };
  TeamSize size(8);
  Seconds now{};
  int seven = 0;
  settle(size, now, Seconds{1}, rate);
  for (int i = 0; i < 600; ++i) {
    const int members = settle(size, now, Seconds{0.1}, rate);
    seven += members == 7 || members == 6 ? 1 : 0;
  }
  EXPECT_GT(seven, 560);
}

TEST(TeamSize, OneMemberOnACrowdedMachineAndAllOnceItIsQuiet) {
  TeamSize size(4);
  Seconds now{};
  const auto crowded = [](int n) { return n == 1 ? 0.4 : 0.3 / n; };
  settle(size, now, Seconds{2}, crowded);
  int alone = 0;
  for (int i = 0; i < 100; ++i) alone += settle(size, now, Seconds{0.1}, crowded) == 1 ? 1 : 0;
  EXPECT_GT(alone, 90);
  EXPECT_EQ(settle(size, now, Seconds{30}, free_cores), 4);
}

TEST(TeamSize, ATeamOfOneStaysOne) {
  TeamSize size(1);
  Seconds now{};
  EXPECT_EQ(settle(size, now, Seconds{5}, [](int) { return 0.1; }), 1);
}

}  // namespace
}  // namespace hp
