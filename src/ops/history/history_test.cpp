#include "ops/history/history.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "ops/history/history_file.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kStart = 1'700'000'400'000;  // on a boundary of every resolution

std::vector<float> column(const History& history, std::size_t resolution, const std::string& lane,
                          std::size_t points = 10'000) {
  const auto table = history.query(resolution, std::vector{lane}, points);
  return table.columns.empty() ? std::vector<float>() : table.columns.front().values;
}

float last(const History& history, std::size_t resolution, const std::string& lane) {
  const auto values = column(history, resolution, lane);
  return values.empty() ? NAN : values.back();
}

TEST(History, AGaugeBecomesMeanAndPeakInEveryResolution) {
  History history;
  for (std::int64_t t = 0; t <= 600; ++t) {
    history.advance(kStart + t * 1000);
    history.gauge("cpu", t == 30 ? 100.0 : 10.0);
  }
  EXPECT_FLOAT_EQ(last(history, 0, "cpu:mean"), 10);
  EXPECT_FLOAT_EQ(column(history, 1, "cpu:mean")[349], (59 * 10 + 100) / 60.0F);
  EXPECT_FLOAT_EQ(column(history, 1, "cpu:peak")[349], 100);
  EXPECT_FLOAT_EQ(last(history, 2, "cpu:peak"), 100);
  EXPECT_FLOAT_EQ(last(history, 2, "cpu:mean"), (599 * 10 + 100) / 600.0F);
}

TEST(History, ACounterBecomesARateAlsoAcrossARestartOfItsProcess) {
  History history;
  double total = 5'000;
  for (std::int64_t t = 0; t <= 120; ++t) {
    history.advance(kStart + t * 1000);
    if (t == 90) total = 0;
    history.counter("tokens", total += 7);
  }
  for (const float rate : column(history, 1, "tokens:mean"))
    EXPECT_TRUE(std::isnan(rate) || std::abs(rate - 7) < 1e-4) << rate;
  EXPECT_FLOAT_EQ(last(history, 1, "tokens:peak"), 7);
}

TEST(History, PercentilesAreOfExactlyTheSlotsEvents) {
  History history;
  const std::vector<double> bounds{0.1, 0.2, 0.5};
  std::vector<double> cumulative{1000, 1000, 1000, 1000};  // fast ones of before: not ours
  history.advance(kStart);
  history.histogram("ttft", bounds, cumulative);
  for (std::int64_t t = 1; t <= 60; ++t) {
    history.advance(kStart + t * 1000);
    if (t < 60) cumulative = {1000, cumulative[1] + 1, cumulative[2] + 2, cumulative[3] + 2};
    history.histogram("ttft", bounds, cumulative);
  }
  EXPECT_NEAR(last(history, 1, "ttft:p50"), 0.2, 1e-6);
  EXPECT_NEAR(last(history, 1, "ttft:p90"), 0.2 + 0.3 * 0.8, 1e-6);
  EXPECT_TRUE(std::isnan(quantile_of(0.5, bounds, std::vector<double>{0, 0, 0, 0})));
  EXPECT_DOUBLE_EQ(quantile_of(0.99, bounds, std::vector<double>{0, 0, 0, 5}), 0.5) << "beyond the last bound";
}

TEST(History, GapsStayEmptyAndAClockSetBackDropsItsFuture) {
  History history;
  history.advance(kStart);
  history.gauge("x", 1);
  history.advance(kStart + 60'000);
  history.advance(kStart + 65'000);
  const auto values = column(history, 0, "x:mean");
  EXPECT_FLOAT_EQ(values[values.size() - 13], 1);
  EXPECT_EQ(std::count_if(values.begin(), values.end(), [](float v) { return !std::isnan(v); }), 1);
  history.gauge("x", 2);
  history.advance(kStart + 5'000);
  history.gauge("x", 3);
  history.advance(kStart + 10'000);
  const auto again = column(history, 0, "x:mean");
  EXPECT_FLOAT_EQ(again.back(), 3);
  EXPECT_FLOAT_EQ(again[again.size() - 2], 1);
}

TEST(History, ThinningKeepsSpikes) {
  History history;
  for (std::int64_t t = 0; t <= 900; ++t) {
    history.advance(kStart + t * 1000);
    history.gauge("x", t == 444 ? 50 : 1);
  }
  const auto peaks = column(history, 0, "x:peak", 20);
  EXPECT_LE(peaks.size(), 20U);
  EXPECT_FLOAT_EQ(*std::ranges::max_element(peaks), 50);
  const auto table = history.query(0, std::vector<std::string>{"x:mean"}, 20);
  EXPECT_EQ(table.step_ms, 5'000 * 9);
}

TEST(History, NodesAsMinimumMeanMaximumAndTheHighest) {
  History history;
  for (std::int64_t t = 0; t <= 10; t += 5) {
    history.advance(kStart + t * 1000);
    for (int n = 0; n < 50; ++n) history.gauge("node/n" + std::to_string(n) + "/kv", n);
    history.gauge("node/odd/kv_other", 1000);
  }
  const auto table = history.query_nodes(0, "kv", "mean", 2, 1000);
  ASSERT_EQ(table.columns.size(), 5U);
  EXPECT_FLOAT_EQ(table.columns[0].values.back(), 0);
  EXPECT_FLOAT_EQ(table.columns[1].values.back(), 24.5);
  EXPECT_FLOAT_EQ(table.columns[2].values.back(), 49);
  EXPECT_EQ(table.columns[3].name, "n49");
  EXPECT_EQ(table.columns[4].name, "n48");
}

TEST(History, SeriesAreBoundedAndTheSilentOneGivesItsPlace) {
  History history(3);
  history.advance(kStart);
  for (const char* name : {"a", "b", "c", "d"}) history.gauge(name, 1);
  EXPECT_EQ(history.size(), 3U);
  EXPECT_EQ(history.refused(), 1U);
  history.advance(kStart + 120'000);
  for (const char* name : {"a", "b", "d"}) history.gauge(name, 2);
  history.advance(kStart + 125'000);
  EXPECT_FLOAT_EQ(last(history, 0, "d:mean"), 2);
  EXPECT_TRUE(column(history, 0, "c:mean").empty());
  const std::size_t before = history.bytes();
  for (std::int64_t t = 0; t < 5'000; ++t) {
    history.advance(kStart + 130'000 + t * 5'000);
    for (const char* name : {"a", "b", "d"}) history.gauge(name, 2);
  }
  EXPECT_EQ(history.bytes(), before);
}

class HistoryFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("hp-history-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "history.bin";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // `minutes` of two series, one value a second, into history and file.
  static void run(History& history, HistoryFile& file, std::int64_t from_s, std::int64_t seconds) {
    for (std::int64_t t = from_s; t <= from_s + seconds; ++t) {
      const std::int64_t now = kStart + t * 1000;
      history.advance(now, [&](std::size_t r, std::int64_t slot) { file.append(history, r, slot, now); });
      history.gauge("cpu", static_cast<double>(t / 60));
      history.counter("tokens", static_cast<double>(t) * 3);
    }
  }
  std::filesystem::path folder_, path_;
};

TEST_F(HistoryFileTest, ComesBackAfterARestartWithWhatWasWritten) {
  {
    History history;
    HistoryFile file(path_);
    ASSERT_TRUE(file.open(history, kStart));
    run(history, file, 0, 1'800);
  }
  History again;
  HistoryFile file(path_);
  ASSERT_TRUE(file.open(again, kStart + 1'900'000));
  EXPECT_TRUE(file.trouble().empty());
  run(again, file, 1'900, 70);
  const auto minutes = column(again, 1, "cpu:mean");
  for (int m = 0; m < 30; ++m)
    EXPECT_FLOAT_EQ(minutes[minutes.size() - 32 + static_cast<std::size_t>(m)], static_cast<float>(m)) << m;
  EXPECT_FLOAT_EQ(column(again, 2, "tokens:mean")[1006], 3);
}

TEST_F(HistoryFileTest, ATornEndAndForeignBytesCostOnlyThemselves) {
  {
    History history;
    HistoryFile file(path_);
    ASSERT_TRUE(file.open(history, kStart));
    run(history, file, 0, 600);
  }
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 5);
  History again;
  HistoryFile file(path_);
  ASSERT_TRUE(file.open(again, kStart + 660'000));
  run(again, file, 660, 1);
  const auto minutes = column(again, 1, "cpu:mean");
  EXPECT_GE(std::count_if(minutes.begin(), minutes.end(), [](float v) { return !std::isnan(v); }), 8);
  std::ofstream(path_) << "something else entirely";
  History fresh;
  HistoryFile other(path_);
  EXPECT_TRUE(other.open(fresh, kStart));
  EXPECT_EQ(fresh.size(), 0U);
}

TEST_F(HistoryFileTest, AFullDiskCostsNothingInMemoryAndIsMadeGoodLater) {
  History history;
  HistoryFile file(path_);
  ASSERT_TRUE(file.open(history, kStart));
  run(history, file, 0, 300);
  // A file-size limit is what a full disk looks like to write(): the signal is ignored, the call fails.
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = 64;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  run(history, file, 301, 300);
  EXPECT_FALSE(file.trouble().empty());
  EXPECT_FLOAT_EQ(last(history, 1, "cpu:mean"), 9) << "memory goes on";
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  run(history, file, 602, 120);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(file.trouble().empty());
  History again;
  HistoryFile reader(path_);
  ASSERT_TRUE(reader.open(again, kStart + 722'000));
  run(again, reader, 722, 60);
  const auto minutes = column(again, 1, "cpu:mean");
  EXPECT_FLOAT_EQ(minutes[minutes.size() - 13 + 7], 7) << "the minutes of the full disk are there as well";
}

}  // namespace
}  // namespace hp::ops
