#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>

#include "base/check.h"
#include "base/counter_rng.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/metrics.h"
#include "base/thread_pool.h"

namespace hp {
namespace {

TEST(CounterRng, KnownAnswersOfPhilox) {  // Random123's kat_vectors for philox4x32-10
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Philox4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Philox4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Philox4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(CounterRng, UniformHasTheRightMeanAndDependsOnEveryArgument) {
  double sum = 0;
  for (std::uint64_t i = 0; i < 100'000; ++i) {
    const double u = uniform_at(7, i, 0);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 1e5, 0.5, 0.005);
  const double u = uniform_at(1, 2, 3, 4);
  EXPECT_NE(u, uniform_at(2, 2, 3, 4));
  EXPECT_NE(u, uniform_at(1, 3, 3, 4));
  EXPECT_NE(u, uniform_at(1, 2, 4, 4));
  EXPECT_NE(u, uniform_at(1, 2, 3, 5));
}

TEST(Hash, ChainDependsOnEveryEarlierPart) {
  const auto bytes = [](const char* s) { return std::as_bytes(std::span(s, std::strlen(s))); };
  const Hash128 a = hash128(bytes("a")), b = hash128(bytes("b"));
  EXPECT_NE(hash128_chain(a, bytes("x")), hash128_chain(b, bytes("x")));
  EXPECT_NE(hash128_chain(a, bytes("x")), hash128_chain(a, bytes("y")));
  EXPECT_EQ(hash128_chain(a, bytes("x")), hash128_chain(a, bytes("x")));
  Hash128 high = a;
  high.high ^= 1;
  EXPECT_NE(hash128_chain(a, bytes("x")), hash128_chain(high, bytes("x")));
}

TEST(ParallelTeam, EveryMemberRunsAndBarriersOrderWrites) {
  for (const int size : {1, 2, 3, 5}) {
    ParallelTeam team(size);
    std::vector<int> seen(static_cast<std::size_t>(size));
    std::atomic<int> wrong{0};
    for (int round = 1; round <= 200; ++round) {
      team.run([&](int member) {
        for (int phase = 0; phase < 5; ++phase) {
          seen[static_cast<std::size_t>(member)] = round * 10 + phase;
          team.barrier();
          for (const int v : seen) wrong += v != round * 10 + phase;
          team.barrier();
        }
      });
    }
    EXPECT_EQ(wrong.load(), 0) << size;
  }
}

// Pauses longer than the spin put members to sleep before a run and inside a barrier: no wake-up may get lost.
TEST(ParallelTeam, SleepingMembersWakeUp) {
  ParallelTeam team(3);
  std::atomic<int> visits{0};
  for (int round = 0; round < 50; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(round % 3 * 100));
    team.run([&](int member) {
      if (member == round % 3) std::this_thread::sleep_for(std::chrono::microseconds(200));
      team.barrier();
      ++visits;
    });
    ASSERT_EQ(visits.load(), 3 * (round + 1));
  }
}

TEST(ParallelTeam, SplitRangeCoversEverythingOnce) {
  for (const std::size_t count : {0U, 1U, 7U, 64U, 1000U}) {
    for (const int members : {1, 2, 3, 7}) {
      std::size_t next = 0;
      for (int m = 0; m < members; ++m) {
        const Range r = split_range(count, m, members, 4);
        EXPECT_EQ(r.begin, next);
        next = r.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

TEST(TaskQueue, RunsWhatItTookAndRefusesWhenFull) {
  std::atomic<int> done{0};
  {
    TaskQueue queue(2, 1000);
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(queue.try_post([&done] { ++done; }));
    while (done.load() < 500) std::this_thread::yield();
  }
  TaskQueue none(0, 1);
  EXPECT_TRUE(none.try_post([] {}));
  EXPECT_FALSE(none.try_post([] {}));
  EXPECT_EQ(none.queued(), 1U);
}

TEST(MappedFile, MapsAndNamesWhatIsMissing) {
  const auto path = std::filesystem::temp_directory_path() / "homeport_mapped_file_test";
  std::ofstream(path) << "hello";
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->bytes().size(), 5U);
  const MappedFile moved = std::move(*file);
  EXPECT_EQ(static_cast<char>(moved.bytes()[0]), 'h');
  std::filesystem::remove(path);
  const auto missing = MappedFile::open("/no/such/file");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_NE(missing.error().message.find("/no/such/file"), std::string::npos);
  EXPECT_FALSE(MappedFile::open("/").has_value());
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_FALSE(MappedFile::open(path).has_value());  // and does not hang
  std::filesystem::remove(path);
}

TEST(Metrics, RendersPrometheusText) {
  MetricsRegistry registry;
  registry.counter("b_total", "Things", {{"kind", "a\"b"}}).add(2);
  registry.gauge("a", "Level").set(0.5);
  const double bounds[] = {1.0, 2.0};
  Histogram& h = registry.histogram("h", "Sizes", bounds);
  for (const double v : {0.5, 1.0, 1.5, 9.0}) h.observe(v);
  EXPECT_EQ(registry.render(),
            "# HELP a Level\n# TYPE a gauge\na 0.5\n"
            "# HELP b_total Things\n# TYPE b_total counter\nb_total{kind=\"a\\\"b\"} 2\n"
            "# HELP h Sizes\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"+Inf\"} 4\n"
            "h_sum 12\nh_count 4\n");
}

TEST(Metrics, NoObservationIsLostBetweenThreads) {
  MetricsRegistry registry;
  const double bounds[] = {1.0, 2.0, 3.0};
  Histogram& h = registry.histogram("h", "", bounds);
  Counter& c = registry.counter("c_total", "");
  EXPECT_EQ(&c, &registry.counter("c_total", ""));
  ParallelTeam(3).run([&](int member) {
    for (int i = 0; i < 1000; ++i) {
      h.observe(member + 1);
      c.add();
      if (i % 100 == 0) registry.gauge("g", "", {{"member", std::to_string(member)}}).set(i);
      if (i % 250 == 0) (void)registry.render();
    }
  });
  EXPECT_EQ(h.cumulative(), (std::vector<std::uint64_t>{1000, 2000, 3000, 3000}));
  EXPECT_EQ(h.sum(), 6000.0);
  EXPECT_EQ(c.value(), 3000.0);
}

TEST(MetricsDeathTest, OneNameOfTwoKindsIsABug) {
  MetricsRegistry registry;
  registry.counter("x", "");
  EXPECT_DEATH(registry.gauge("x", ""), "two kinds");
}

TEST(Metrics, LabelValuesFromClientsAreBounded) {
  MetricsRegistry registry;
  for (std::size_t i = 0; i < MetricsRegistry::kMaxSeriesPerName + 50; ++i)
    registry.counter("c_total", "", {{"model", std::to_string(i)}}).add();
  EXPECT_EQ(registry.counter("c_total", "", {{"model", "new"}}).value(), 50);
}

TEST(CheckDeathTest, PrintsExpressionAndValues) {
  const int size = 3;
  EXPECT_DEATH(HP_CHECK(size < 2, "size {}", size), "size < 2.*size 3");
}

}  // namespace
}  // namespace hp
