#include "cli/fleet_desk.h"

#include <gtest/gtest.h>

namespace hp::cli {
namespace {

/// Four places, of which two are filled without anybody's doing. Nothing is started: nobody calls tick().
struct Desk {
  Desk() { fleet.want(2); }
  static std::vector<fleet::ChildSpec> places() {
    std::vector<fleet::ChildSpec> out;
    for (int i = 0; i < 4; ++i) out.push_back({.name = fmt::format("node{}", i), .command = {"/bin/false"}});
    return out;
  }
  MetricsRegistry metrics;
  SteadyClock clock;
  fleet::Fleet fleet{places(), clock, metrics};
  FleetDesk desk{fleet, 2};
  FleetControls controls = desk.controls();
};

TEST(FleetDesk, WhatAnActionAddedStaysUntilItIsTakenBack) {
  Desk d;
  EXPECT_EQ(d.desk.floor(), 2u);
  const auto grown = d.controls.grow(1, false);
  ASSERT_TRUE(grown.has_value()) << grown.error().message;
  EXPECT_EQ(grown->nodes, 1);
  EXPECT_EQ(grown->text, "3 node processes instead of 2");
  EXPECT_EQ(d.fleet.wanted(), 3u);
  EXPECT_EQ(d.desk.floor(), 3u) << "the scaling law may not end it";
  ASSERT_TRUE(d.controls.shrink(1, false).has_value());
  EXPECT_EQ(d.fleet.wanted(), 2u);
  EXPECT_EQ(d.desk.floor(), 2u);
  EXPECT_FALSE(d.controls.shrink(1, false).has_value()) << "the fleet's own nodes stay";
}

TEST(FleetDesk, WhatIsTakenBackIsWhatWasAdded) {
  Desk d;
  const auto grown = d.controls.grow(7, false);
  ASSERT_TRUE(grown.has_value());
  EXPECT_EQ(grown->nodes, 2) << "there was no room for more";
  EXPECT_EQ(d.controls.grow(1, false).error().code, ErrorCode::resource_exhausted);
}

TEST(FleetDesk, ShrinkingNeverGrows) {
  Desk d;
  d.fleet.want(4);  // the law's doing
  ASSERT_TRUE(d.controls.shrink(1, false).has_value());
  EXPECT_EQ(d.fleet.wanted(), 3u);
  d.fleet.want(2);
  EXPECT_FALSE(d.controls.shrink(1, false).has_value());
  EXPECT_EQ(d.fleet.wanted(), 2u);
}

TEST(FleetDesk, ADryRunChangesNothing) {
  Desk d;
  const auto grown = d.controls.grow(1, true);
  ASSERT_TRUE(grown.has_value());
  EXPECT_EQ(grown->text, "3 node processes instead of 2");
  EXPECT_EQ(d.fleet.wanted(), 2u);
  EXPECT_EQ(d.desk.floor(), 2u);
}

}  // namespace
}  // namespace hp::cli
