// Every implementation says the same: ranks of threads, and NCCL's calls on a library that has no GPU
// (tests/tools/fake_nccl.cpp).
#include "comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

#include "comm/local_ranks.h"
#include "comm/nccl_ranks.h"

namespace hp {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using Ranks = std::vector<std::unique_ptr<Communicator>>;

void on_all(Ranks& ranks, const std::function<void(Communicator&)>& body) {
  std::vector<std::jthread> threads;
  for (auto& rank : ranks) threads.emplace_back([&] { body(*rank); });
}

Result<std::shared_ptr<const NcclLibrary>> fake_nccl() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  return load_nccl(program / "fake_nccl" / "libnccl.so.2");
}

/// What a kernel does for a GPU: parts [world, count] summed in rank order.
Status fold(const void* parts, void* out, std::size_t count, int world, WireType type) {
  const auto at = [&](std::size_t i) {
    if (type == WireType::f32) return static_cast<const float*>(parts)[i];
    return std::bit_cast<float>(std::uint32_t{static_cast<const std::uint16_t*>(parts)[i]} << 16);
  };
  std::vector<float> sums(count);
  for (std::size_t i = 0; i < count; ++i) {
    sums[i] = at(i);
    for (std::size_t r = 1; r < static_cast<std::size_t>(world); ++r) sums[i] += at(r * count + i);
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (type == WireType::f32) static_cast<float*>(out)[i] = sums[i];
    const auto bits = std::bit_cast<std::uint32_t>(sums[i]);
    if (type == WireType::bf16)
      static_cast<std::uint16_t*>(out)[i] = static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
  return {};
}

class AnyRanks : public testing::TestWithParam<std::tuple<const char*, int>> {
 protected:
  void SetUp() override {
    const int world = std::get<1>(GetParam());
    if (std::string_view(std::get<0>(GetParam())) == "threads") {
      ranks_ = local_ranks(world);
      return;
    }
    const auto nccl = fake_nccl();
    ASSERT_TRUE(nccl) << nccl.error().message;
    const auto id = make_nccl_id(**nccl);
    ASSERT_TRUE(id);
    ranks_.resize(static_cast<std::size_t>(world));
    scratch_.resize(ranks_.size(), std::vector<float>(4096));
    std::vector<std::jthread> threads;
    for (int r = 0; r < world; ++r)
      threads.emplace_back([&, r] {
        auto& scratch = scratch_[static_cast<std::size_t>(r)];
        auto joined = join_nccl(*nccl, *id, r, world,
                                {.stream = reinterpret_cast<void*>(0x57),
                                 .scratch = scratch.data(),
                                 .scratch_bytes = scratch.size() * sizeof(float),
                                 .fold = fold});
        if (joined) ranks_[static_cast<std::size_t>(r)] = *std::move(joined);
      });
    threads.clear();
    for (const auto& rank : ranks_) ASSERT_NE(rank, nullptr);
  }
  [[nodiscard]] int world() const { return std::get<1>(GetParam()); }

  std::vector<std::vector<float>> scratch_;
  Ranks ranks_;
};

/// Numbers whose sum depends on its order.
float addend(int rank, std::size_t i) {
  constexpr float kMixed[] = {1e8F, 3.0F, -1e8F, 0.7F, 1e-3F};
  return kMixed[(static_cast<std::size_t>(rank) + i) % 5] * (1.0F + static_cast<float>(i % 7) * 0.01F);
}

TEST_P(AnyRanks, SumsInRankOrderWhateverTheSizeAndWhoeverComesFirst) {
  on_all(ranks_, [&](Communicator& c) {
    for (int round = 0; round < 20; ++round) {
      const std::size_t count = 1 + static_cast<std::size_t>(round) * 37;
      std::vector<float> data(count);
      for (std::size_t i = 0; i < count; ++i) data[i] = addend(c.rank(), i);
      if ((round + c.rank()) % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
      const Status status = c.all_reduce_sum(data.data(), count, WireType::f32);
      ASSERT_TRUE(status) << status.error().message;
      for (std::size_t i = 0; i < count; ++i) {
        float want = addend(0, i);
        for (int r = 1; r < world(); ++r) want += addend(r, i);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(data[i]), std::bit_cast<std::uint32_t>(want)) << i << " of " << count;
      }
    }
  });
}

TEST_P(AnyRanks, ASumOfHalvesIsRoundedOnce) {
  on_all(ranks_, [&](Communicator& c) {
    // 1 + 2^-9 + … is lost when every addition rounds to eight bits, and kept when only the last does.
    std::vector<std::uint16_t> data(9, c.rank() == 0 ? 0x3F80 : 0x3B80);
    ASSERT_TRUE(c.all_reduce_sum(data.data(), data.size(), WireType::bf16));
    const float want = 1.0F + static_cast<float>(world() - 1) * 0x1p-8F;
    const auto bits = std::bit_cast<std::uint32_t>(want);
    const auto rounded = static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    EXPECT_THAT(data, testing::Each(rounded));
  });
}

TEST_P(AnyRanks, GathersBroadcastsAndWaits) {
  on_all(ranks_, [&](Communicator& c) {
    EXPECT_EQ(c.world(), world());
    const std::int32_t own[2] = {c.rank(), 10 * c.rank()};
    std::vector<std::int32_t> all(static_cast<std::size_t>(2 * world()));
    ASSERT_TRUE(c.all_gather(own, all.data(), sizeof own));
    for (int r = 0; r < world(); ++r) {
      EXPECT_EQ(all[static_cast<std::size_t>(2 * r)], r);
      EXPECT_EQ(all[static_cast<std::size_t>(2 * r + 1)], 10 * r);
    }
    ASSERT_TRUE(c.barrier());
    std::int32_t said = 100 + c.rank();
    ASSERT_TRUE(c.broadcast(&said, sizeof said, world() - 1));
    EXPECT_EQ(said, 100 + world() - 1);
  });
}

TEST_P(AnyRanks, AnAbortFreesWhoWaitsAndStays) {
  if (world() == 1) GTEST_SKIP() << "nobody waits for anybody";
  std::vector<std::jthread> threads;
  for (int r = 1; r < world(); ++r)
    threads.emplace_back([this, r] {
      float x = 1;
      EXPECT_FALSE(ranks_[static_cast<std::size_t>(r)]->all_reduce_sum(&x, 1, WireType::f32));
    });
  ranks_[0]->abort("GPU 0 fell off the bus");
  threads.clear();  // joins: nobody waits for ever
  for (const auto& rank : ranks_) EXPECT_FALSE(rank->barrier());
  const Status again = ranks_[0]->barrier();
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("GPU 0 fell off the bus"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, AnyRanks,
                         testing::Combine(testing::Values("threads", "nccl"), testing::Values(1, 2, 3, 4)));

TEST(LocalRanks, OneThatLeavesFreesTheOthers) {
  Ranks ranks = local_ranks(3);
  std::vector<std::jthread> threads;
  for (std::size_t r = 1; r < 3; ++r)
    threads.emplace_back([&ranks, r] {
      const Status status = ranks[r]->barrier();
      ASSERT_FALSE(status);
      EXPECT_THAT(status.error().message, HasSubstr("rank 0 has left"));
    });
  ranks[0].reset();
}

TEST(LocalRanks, OneThatDoesNotComeIsNamedAfterTheLimit) {
  Ranks ranks = local_ranks(3, milliseconds(50));
  std::vector<std::jthread> threads;
  for (std::size_t r = 0; r < 2; ++r)
    threads.emplace_back([&ranks, r] {
      std::vector<float> x(8);
      const Status status = ranks[r]->all_reduce_sum(x.data(), x.size(), WireType::f32);
      ASSERT_FALSE(status);
      EXPECT_THAT(status.error().message, HasSubstr("did not come to a sum of 8 f32 within 50 ms"));
    });
  threads.clear();
  EXPECT_FALSE(ranks[2]->barrier());
}

TEST(LocalRanks, DifferentCallsAreAnErrorOfAll) {
  Ranks ranks = local_ranks(2);
  std::vector<float> a(8), b(9);
  std::jthread other([&] { EXPECT_FALSE(ranks[1]->all_reduce_sum(b.data(), b.size(), WireType::f32)); });
  const Status status = ranks[0]->all_reduce_sum(a.data(), a.size(), WireType::f32);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("rank 1 calls a sum of 9 f32, rank 0 calls a sum of 8 f32"));
}

TEST(Nccl, AMissingLibraryIsASentence) {
  const auto nccl = load_nccl("/nonexistent/libnccl.so.2");
  ASSERT_FALSE(nccl);
  EXPECT_THAT(nccl.error().message, HasSubstr("several GPUs need NVIDIA's NCCL: /nonexistent/libnccl.so.2"));
}

TEST(Nccl, ARefusalNamesWhatWasAsked) {
  const auto nccl = fake_nccl();
  ASSERT_TRUE(nccl) << nccl.error().message;
  const auto id = make_nccl_id(**nccl);
  ASSERT_TRUE(id);
  const auto joined = join_nccl(*nccl, *id, 2, 2, {});
  ASSERT_FALSE(joined);
  EXPECT_THAT(joined.error().message, HasSubstr("NCCL: rank 2 joins: invalid argument"));
  auto alone = join_nccl(*nccl, *id, 0, 1, {.stream = reinterpret_cast<void*>(1), .scratch = nullptr});
  ASSERT_TRUE(alone) << alone.error().message;
  int x = 0;
  EXPECT_FALSE((*alone)->broadcast(&x, sizeof x, 0));  // a stream that is not the library's
  float y = 1;
  const Status sum = (*alone)->all_reduce_sum(&y, 1, WireType::f32);
  ASSERT_FALSE(sum);
  EXPECT_THAT(sum.error().message, HasSubstr("needs 4 bytes of scratch, there are 0"));
}

}  // namespace
}  // namespace hp
