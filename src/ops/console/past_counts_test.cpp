// What the error budget's windows know after a restart: from the counters through the history's file and back.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "ops/console/console_view.h"
#include "ops/history/history_file.h"
#include "ops/test_series.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kStart = 1'700'000'400'000, kMinute = 60'000, kHour = 60 * kMinute;

struct File {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("hp-past-counts-{}.bin", ::getpid());
  ~File() { std::filesystem::remove(path); }
};

/// Two days of ten requests a second, of which one in 200 is given up; half of the second day was worse: one in 50.
void watch_two_days(const std::filesystem::path& path) {
  History history;
  HistoryFile file(path);
  ASSERT_TRUE(file.open(history, kStart));
  double requests = 1'000, given_up = 3;
  for (std::int64_t t = kStart; t <= kStart + 48 * kHour; t += 20'000) {
    history.advance(t, [&](std::size_t r, std::int64_t slot) { file.append(history, r, slot, t); });
    ClusterView view;
    view.figures.requests = requests;
    view.figures.given_up = given_up;
    record_view(history, view);
    requests += 200;
    given_up += t >= kStart + 36 * kHour ? 4 : 1;
  }
}

double amount(const std::vector<Growth>& growths) {
  double sum = 0;
  for (const Growth& growth : growths) sum += growth.amount;
  return sum;
}

TEST(PastCounts, OutliveTheProcessAndFillTheLongWindows) {
  const File file;
  watch_two_days(file.path);
  const std::int64_t now = kStart + 48 * kHour + 5 * kMinute;  // five minutes to start anew
  History history;
  HistoryFile again(file.path);
  ASSERT_TRUE(again.open(history, now));
  history.advance(now);
  const PastCounts past = past_counts(history);
  EXPECT_NEAR(amount(past.requests), 48 * 3'600 * 10, 12'000) << "what lay in a slot that was never closed is missing";
  EXPECT_NEAR(amount(past.given_up), 36 * 180 + 12 * 720, 250);
  for (const auto* growths : {&past.requests, &past.given_up})
    for (std::size_t i = 1; i < growths->size(); ++i)
      ASSERT_LE((*growths)[i - 1].until_ms, (*growths)[i].from_ms) << "in order, nothing twice";

  SeriesRun run(*load_rules());
  const auto page = [](int requests) {
    return fmt::format("homeport_gateway_requests_total {}\nhomeport_gateway_given_up_total 0\n", requests);
  };
  const auto burn = [&](std::int64_t at, std::string_view signal) {
    for (const SignalSample& s : run.track().signals({at, now + at}))
      if (s.signal == signal) return s.value;
    return -1.0;
  };
  run.round({.at_ms = 0, .node = {}, .gateway = page(0), .wall_ms = now});
  run.round({.at_ms = 1'000, .node = {}, .gateway = page(10), .wall_ms = now + 1'000});
  EXPECT_EQ(burn(1'000, "slo_burn_3d_6h"), 0) << "a process that knows nothing of before sees no error";
  run.track().recall({1'000, now + 1'000}, past);
  EXPECT_NEAR(burn(1'000, "slo_burn_3d_6h"), 15'120 / 1'728'000.0 / 0.001, 0.2) << "the lower of 20 and 8.75";
  EXPECT_NEAR(burn(1'000, "slo_burn_6h_30m"), 20, 0.5);
  const std::string gateway = page(20);
  const auto changes = run.round({.at_ms = 2'000, .node = {}, .gateway = gateway, .wall_ms = now + 2'000});
  EXPECT_TRUE(std::ranges::any_of(
      changes, [](const AlertChange& c) { return c.rule->id == "slo_burn_slow" && c.to == AlertPhase::firing; }));
  EXPECT_TRUE(std::ranges::any_of(changes, [](const AlertChange& c) { return c.rule->id == "slo_burn_medium"; }));
}

}  // namespace
}  // namespace hp::ops
