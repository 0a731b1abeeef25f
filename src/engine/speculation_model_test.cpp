// Speculation over real executors: a tiny dense model and a tiny DeepSeek on the best ISA of this machine give the same
// tokens with and without, greedy and seeded, because rows of logits do not depend on what else is in a step.
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>

#include "arch/cpu/cpu_executor.h"
#include "engine/engine.h"
#include "model/test_tiny_deepseek.h"
#include "model/test_tiny_model.h"

namespace hp {
namespace {

class Tokens final : public EventSink {
 public:
  void on_step(std::vector<TokenEvent> events) override {
    const std::lock_guard lock(mutex_);
    for (const TokenEvent& e : events) {
      if (e.token) tokens[e.request.value].push_back(*e.token);
      if (e.finish) ++ended_;
    }
    wake_.notify_all();
  }
  bool wait(int n) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, std::chrono::seconds(60), [&] { return ended_ >= n; });
  }
  std::map<std::uint64_t, std::vector<TokenId>> tokens;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  int ended_ = 0;
};

std::pair<std::map<std::uint64_t, std::vector<TokenId>>, EngineStats> generate(const std::filesystem::path& path,
                                                                               std::int32_t drafts) {
  auto checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint) << (checkpoint ? "" : checkpoint.error().message);
  auto executor = make_cpu_executor(
      *checkpoint,
      {.isa = kernels::available_isas().back(), .threads = 2, .blocks = 128, .predict = true, .context = 512});
  EXPECT_TRUE(executor) << (executor ? "" : executor.error().message);
  const SteadyClock clock;
  Tokens sink;
  Engine engine(std::move(*executor), sink, {.max_draft_tokens = drafts}, clock);
  for (std::uint64_t id = 0; id < 4; ++id) {
    EngineRequest r;
    r.id = RequestId{id};
    for (int i = 0; i < 30; ++i) r.prompt.push_back((static_cast<TokenId>(id) * 5 + i % 7 * 11) % 128);
    r.max_tokens = 60;
    r.sampling = {.temperature = id % 2 == 0 ? 0.0F : 0.7F, .top_k = 3, .seed = id};
    r.sampling.logit_bias = {{7, 1000.0F}, {9, 1000.0F}};
    EXPECT_TRUE(engine.submit(std::move(r)));
  }
  EXPECT_TRUE(sink.wait(4));
  return {sink.tokens, engine.stats()};
}

void compare(const std::filesystem::path& path) {
  const auto [without, plain] = generate(path, 0);
  const auto [with, stats] = generate(path, 8);
  std::filesystem::remove(path);
  EXPECT_EQ(with, without);
  EXPECT_EQ(plain.draft_tokens, 0U);
  EXPECT_GT(stats.draft_accepted, 0U) << path << " " << stats.draft_tokens << " guessed";
  EXPECT_LT(stats.draft_accepted, stats.draft_tokens);
}

TEST(SpeculationModel, DenseGivesTheSameTokens) {
  compare(TinyModel{}.write("speculation_dense"));
}

TEST(SpeculationModel, DeepseekGivesTheSameTokens) {
  compare(TinyDeepseek{}.write("speculation_v2"));
  compare(TinyDeepseek{.v3 = true}.write("speculation_v3"));
  compare(TinyDeepseek{.v3 = true, .mtp = true}.write("speculation_mtp"));
}

}  // namespace
}  // namespace hp
