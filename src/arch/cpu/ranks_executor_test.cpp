// A model cut over ranks: the logits of one rank's, the memory that was foretold, no byte of another rank's part read,
// and nobody left waiting for a rank that died. tests/golden/test_ranks.py compares with other implementations.
#include "arch/cpu/ranks_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "arch/cpu/engine_memory.h"
#include "arch/cpu/test_steps.h"
#include "arch/cpu/weights.h"
#include "base/thread_pool.h"
#include "comm/local_ranks.h"
#include "model/test_tiny_deepseek.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

Checkpoint open(const std::filesystem::path& path) {
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint) << checkpoint.error().message;
  return *std::move(checkpoint);
}

/// Executors of all ranks, made as the product makes them but one by one.
struct Ranks {
  std::vector<std::unique_ptr<Communicator>> links;
  std::vector<std::unique_ptr<Executor>> executors;
  Ranks(Checkpoint& checkpoint, CpuExecutorOptions options, int world) : links(local_ranks(world)) {
    for (int r = 0; r < world; ++r) {
      options.rank = {r, world};
      options.ranks = links[static_cast<std::size_t>(r)].get();
      auto made = make_cpu_executor(checkpoint, options);
      EXPECT_TRUE(made) << made.error().message;
      executors.push_back(*std::move(made));
    }
  }
};

double distance(const Logits& a, const Logits& b) {
  double off = 0, size = 0;
  EXPECT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) off += std::pow(a[i] - b[i], 2), size += std::pow(b[i], 2);
  return std::sqrt(off / size);
}

std::vector<std::filesystem::path> models() {
  std::vector<std::filesystem::path> paths;
  for (const DType type : {DType::f32, DType::bf16, DType::q4_0, DType::q8_0})
    paths.push_back(
        TinyModel{.architecture = "qwen2", .bias = true, .tied = type == DType::q4_0, .matrices = type}.write(
            "ranks_" + std::string(traits(type).name)));
  paths.push_back(TinyModel{.architecture = "qwen3", .qk_norm = true}.write("ranks_qwen3"));
  for (const bool v3 : {false, true})
    paths.push_back(TinyDeepseek{.v3 = v3, .split_kv_b = v3, .mtp = v3}.write(v3 ? "ranks_v3" : "ranks_v2"));
  return paths;
}

TEST(Ranks, GiveTheLogitsOfOneAndTheSameBitsInAnyPieces) {
  for (const auto& path : models()) {
    Checkpoint checkpoint = open(path);
    for (const kernels::Isa isa : kernels::available_isas()) {
      const CpuExecutorOptions options{.isa = isa, .threads = 4, .kv_dtype = DType::f32, .blocks = 128, .context = 512};
      const auto whole = make_cpu_executor(checkpoint, options);
      ASSERT_TRUE(whole) << whole.error().message;
      const auto prompt = tokens(40, 3);
      const Logits want = run_chunked(**whole, prompt, 40, 0);
      for (const int world : {2, 4}) {
        if (world == 4 && checkpoint.find("token_embd.weight")->view.dtype != DType::f32) continue;  // 96 of 32 each
        const auto cut = make_ranks_executor(checkpoint, options, world);
        ASSERT_TRUE(cut) << path << ": " << cut.error().message;
        const Logits got = run_chunked(**cut, prompt, 40, 0);
        // Operands of 8 and 16 bits are rounded over other columns.
        EXPECT_LT(distance(got, want), isa == kernels::Isa::ref ? 1e-4 : 0.02) << path << " on " << world;
        EXPECT_TRUE(same_bits(got, run_chunked(**cut, prompt, 7, 61))) << path << " on " << world;
        EXPECT_EQ((*cut)->info().weights, (*whole)->info().weights + "-tp" + std::to_string(world));
      }
    }
    std::filesystem::remove(path);
  }
}

TEST(Ranks, HoldWhatWasForetoldAndOnlyTheirHeadsKv) {
  for (const auto& path : models()) {
    Checkpoint checkpoint = open(path);
    const CpuExecutorOptions options{.threads = 2, .blocks = 9, .max_step_tokens = 33, .predict = true};
    const auto whole = make_cpu_executor(checkpoint, options);
    ASSERT_TRUE(whole);
    const auto all = make_ranks_executor(checkpoint, options, 2);
    const auto sum = ranks_engine_memory(types_of(checkpoint), options, 2);
    ASSERT_TRUE(all && sum);
    EXPECT_EQ((*all)->info().memory, *sum);
    const Ranks ranks(checkpoint, options, 2);
    for (int r = 0; r < 2; ++r) {
      CpuExecutorOptions own = options;
      own.rank = {r, 2};
      const auto foretold = cpu_engine_memory(types_of(checkpoint), own);
      ASSERT_TRUE(foretold) << foretold.error().message;
      const ExecutorInfo& info = ranks.executors[static_cast<std::size_t>(r)]->info();
      EXPECT_EQ(*foretold, info.memory) << path << " rank " << r;
      EXPECT_LT(info.memory.weights, (*whole)->info().memory.weights);
      const std::size_t parts = checkpoint.config().mla ? 1 : 2;  // the latent serves all heads
      EXPECT_EQ(info.block_bytes * parts, (*whole)->info().block_bytes);
    }
    std::filesystem::remove(path);
  }
}

/// The file with 0xff wherever another rank's part of a tensor lies.
void write_spoiled(const Checkpoint& checkpoint, const ShardPlan& plan, std::string bytes,
                   const std::filesystem::path& path) {
  for (const NamedTensor& t : checkpoint.tensors()) {
    const TensorPart p = plan.part(t.name, t.view.shape);
    if (p.whole()) continue;
    const std::size_t at = bytes.find(std::string(reinterpret_cast<const char*>(t.view.data), t.view.bytes()));
    ASSERT_NE(at, std::string::npos) << t.name;
    const DType type = t.view.dtype;
    const auto bytes_of = [&](std::int64_t elements) {
      return storage_bytes(type, static_cast<std::size_t>(elements));
    };
    const std::int64_t rows = t.view.shape.elements() / p.all_columns;
    for (std::int64_t r = 0; r < rows; ++r) {
      const bool own = r % p.all_rows >= p.first_row && r % p.all_rows < p.first_row + p.rows;
      const std::size_t row = at + bytes_of(r * p.all_columns), begin = bytes_of(own ? p.first_column : p.all_columns);
      const std::size_t end = own ? bytes_of(p.first_column + p.columns) : begin;
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(row), begin, '\xff');
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(row + end), bytes_of(p.all_columns) - end, '\xff');
    }
  }
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(Ranks, ReadNothingOfTheOthersParts) {
  ParallelTeam team(2);
  for (const auto& path : models()) {
    const Checkpoint checkpoint = open(path);
    std::ifstream in(path, std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(in), {});
    const auto spoiled = path.string() + ".spoiled";
    for (int r = 0; r < 2; ++r) {
      const auto plan = ShardPlan::make(checkpoint, {r, 2});
      ASSERT_TRUE(plan) << plan.error().message;
      write_spoiled(checkpoint, *plan, bytes, spoiled);
      const auto want = load_weights(checkpoint, *plan, false, team);
      const auto got = load_weights(open(spoiled), *plan, false, team);
      ASSERT_TRUE(want && got);
      ASSERT_EQ(got->packed.size(), want->packed.size());
      EXPECT_EQ(std::memcmp(got->packed.data(), want->packed.data(), want->packed.size()), 0) << path << " rank " << r;
    }
    std::filesystem::remove(spoiled);
    std::filesystem::remove(path);
  }
}

TEST(Ranks, ADeadRankEndsTheStepOfTheOthers) {
  const auto path = TinyModel{}.write("ranks_dead");
  Checkpoint checkpoint = open(path);
  Ranks ranks(checkpoint, {.threads = 1, .blocks = 8}, 2);
  const auto prompt = tokens(5, 1);
  const auto table = blocks(8, 0);
  const SequenceStep s{.tokens = prompt, .position = 0, .blocks = table, .logit_rows = 1};
  std::jthread survivor([&] {
    const auto step = ranks.executors[0]->step(std::span(&s, 1));
    ASSERT_FALSE(step);
    EXPECT_THAT(step.error().message, testing::HasSubstr("rank 1 has left"));
    EXPECT_FALSE(ranks.executors[0]->step(std::span(&s, 1)));
  });
  ranks.links[1].reset();
  survivor.join();
  std::filesystem::remove(path);
}

TEST(Ranks, ACutThatTheModelDoesNotAllowIsASentence) {
  const auto path = TinyModel{}.write("ranks_refused");
  Checkpoint checkpoint = open(path);
  const auto made = make_ranks_executor(checkpoint, {.blocks = 8}, 3);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, testing::HasSubstr("4 attention heads cannot be shared among 3 ranks"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace hp
