// The engine over the fake executor: a sequence's tokens are the same alone, batched, chunked, preempted and resumed.
// The engine checks itself for leaked blocks when it stops.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "engine/sampler.h"
#include "sim/fake_executor.h"

namespace hp {
namespace {

using Key = std::pair<std::uint64_t, std::int32_t>;

class Collector final : public EventSink {
 public:
  void on_step(std::vector<TokenEvent> events) override {
    const std::lock_guard lock(mutex_);
    for (const TokenEvent& e : events) {
      const Key key{e.request.value, e.choice};
      if (e.token) tokens[key].push_back(*e.token);
      if (e.token && e.cached_prompt_tokens > 0) cached[key] = e.cached_prompt_tokens;
      if (e.finish) finished[key] = *e.finish;
    }
    wake_.notify_all();
  }
  bool wait(std::size_t n) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, std::chrono::seconds(120), [&] { return finished.size() >= n; });
  }
  bool wait_tokens(std::size_t n) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, std::chrono::seconds(120),
                          [&] { return !tokens.empty() && tokens.begin()->second.size() >= n; });
  }
  std::map<Key, std::vector<TokenId>> tokens;
  std::map<Key, std::int32_t> cached;
  std::map<Key, FinishReason> finished;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
};

EngineRequest request(std::uint64_t id, std::int32_t prompt, std::int32_t max_tokens) {
  EngineRequest r;
  r.id = RequestId{id};
  for (std::int32_t i = 0; i < prompt; ++i)
    r.prompt.push_back(static_cast<TokenId>((id * 31 + static_cast<std::uint64_t>(i) * 7) % 97));
  r.max_tokens = max_tokens;
  r.sampling.seed = id;
  return r;
}

/// What any correct engine must generate, computed without one.
std::vector<TokenId> expected(const EngineRequest& r, std::uint32_t choice = 0) {
  std::vector<TokenId> all = r.prompt;
  while (static_cast<std::int32_t>(all.size() - r.prompt.size()) < r.max_tokens) {
    const auto logits = FakeExecutor::logits_after(all, 97);
    const auto generated = std::span<const TokenId>(all).subspan(r.prompt.size());
    all.push_back(sample_token(r.sampling, {.logits = logits,
                                            .prompt = r.prompt,
                                            .generated = generated,
                                            .forbidden = {},
                                            .allowed = {},
                                            .position = all.size(),
                                            .choice = choice})
                      ->token);
  }
  return {all.begin() + static_cast<std::ptrdiff_t>(r.prompt.size()), all.end()};
}

struct Case {
  const char* name;
  FakeExecutorOptions device;
  EngineOptions options;
  bool preempts;
};

TEST(Engine, TokensDoNotDependOnScheduling) {
  const SteadyClock clock;
  for (const Case& c :
       {Case{"batched", {.blocks = 128}, {}, false}, Case{"chunked", {.blocks = 128, .max_step_tokens = 5}, {}, false},
        Case{"one at a time", {}, {.max_running = 1}, false}, Case{"short of blocks", {.blocks = 16}, {}, true},
        Case{"no cache", {.blocks = 16}, {.prefix_cache = false}, true}}) {
    Collector sink;
    {
      Engine engine(std::make_unique<FakeExecutor>(c.device), sink, c.options, clock);
      for (std::uint64_t id = 1; id <= 8; ++id)
        ASSERT_TRUE(engine.submit(request(id, static_cast<std::int32_t>(3 * id), 24)));
      ASSERT_TRUE(sink.wait(8)) << c.name;
      EXPECT_EQ(engine.stats().preemptions > 0, c.preempts) << c.name;
    }
    for (std::uint64_t id = 1; id <= 8; ++id)
      EXPECT_EQ((sink.tokens[{id, 0}]), expected(request(id, static_cast<std::int32_t>(3 * id), 24))) << c.name << id;
  }
}

TEST(Engine, ADeviceMayFindTheBestTokenItself) {
  const SteadyClock clock;
  // All greedy: only best tokens come back. Some that sample: the device draws, or leaves it to the engine. One that
  // needs its logits: everybody's come back.
  for (const int kind : {0, 1, 2}) {
    const auto made = [&](std::uint64_t id) {
      EngineRequest r = request(id, static_cast<std::int32_t>(3 * id), 24);
      r.sampling.temperature = kind > 0 && id % 3 == 0 ? 1.0F : 0.0F;
      r.sampling.top_p = id == 6 ? 0.9F : 1.0F;
      if (kind == 2 && id == 3) r.sampling.top_k = 5;
      return r;
    };
    Collector sink;
    {
      Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{.blocks = 128, .finds_best = true}), sink, {},
                    clock);
      for (std::uint64_t id = 1; id <= 6; ++id) ASSERT_TRUE(engine.submit(made(id)));
      ASSERT_TRUE(sink.wait(6));
    }
    for (std::uint64_t id = 1; id <= 6; ++id) EXPECT_EQ((sink.tokens[{id, 0}]), expected(made(id))) << kind << id;
  }
}

/// Answers in two tokens only, so that the past foretells the future about every second time.
EngineRequest repetitive(std::uint64_t id, bool greedy) {
  EngineRequest r = request(id, static_cast<std::int32_t>(5 * id), 60);
  r.sampling.temperature = greedy ? 0.0F : 1.0F;
  r.sampling.logit_bias = {{5, 1000.0F}, {6, 1000.0F}};
  return r;
}

TEST(Engine, SpeculationChangesNothingButTheSteps) {
  const SteadyClock clock;
  for (const bool greedy : {true, false}) {
    for (const FakeExecutorOptions& device : {FakeExecutorOptions{.blocks = 256}, FakeExecutorOptions{.blocks = 40},
                                              FakeExecutorOptions{.blocks = 256, .max_step_tokens = 7},
                                              FakeExecutorOptions{.blocks = 256, .max_logit_rows = 6}}) {
      Collector sink;
      {
        Engine engine(std::make_unique<FakeExecutor>(device), sink, {.max_draft_tokens = 8}, clock);
        for (std::uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(engine.submit(repetitive(id, greedy)));
        ASSERT_TRUE(sink.wait(4));
        const EngineStats stats = engine.stats();
        EXPECT_GT(stats.draft_accepted, 10U);
        EXPECT_LT(stats.draft_accepted, stats.draft_tokens) << "some guesses must fail, or rejection is not tested";
        EXPECT_EQ(stats.generated_tokens, 240U);
      }
      for (std::uint64_t id = 1; id <= 4; ++id) {
        EXPECT_EQ((sink.tokens[{id, 0}]), expected(repetitive(id, greedy))) << id;
        EXPECT_EQ((sink.finished[{id, 0}]), FinishReason::length);
      }
    }
  }
}

TEST(Engine, SpeculationEndsAtAStopToken) {
  const SteadyClock clock;
  EngineRequest r = repetitive(3, false);
  const auto all = expected(r);
  const auto stop = std::ranges::find(all.begin() + 20, all.end(), 6) - all.begin();
  r.min_tokens = static_cast<std::int32_t>(stop);
  Collector sink, plain;
  EngineRequest same = repetitive(3, false);
  same.min_tokens = r.min_tokens;
  r.stop_tokens = same.stop_tokens = {6};
  Engine with(std::make_unique<FakeExecutor>(FakeExecutorOptions{}), sink, {.max_draft_tokens = 8}, clock);
  Engine without(std::make_unique<FakeExecutor>(FakeExecutorOptions{}), plain, {}, clock);
  ASSERT_TRUE(with.submit(std::move(r)));
  ASSERT_TRUE(without.submit(std::move(same)));
  ASSERT_TRUE(sink.wait(1) && plain.wait(1));
  EXPECT_EQ((sink.tokens[{3, 0}]), (plain.tokens[{3, 0}]));
  EXPECT_EQ((sink.finished[{3, 0}]), FinishReason::stop);
  EXPECT_EQ((sink.tokens[{3, 0}]).back(), 6);
}

TEST(Engine, ChoicesShareThePromptAndResumeContinues) {
  const SteadyClock clock;
  Collector sink;
  EngineRequest r = request(1, 17, 12);
  const EngineRequest alone = request(1, 17, 12);
  r.choices = 3;
  EngineRequest resumed = request(2, 17, 12);
  const auto whole = expected(request(2, 17, 12));
  resumed.generated = {{whole.begin(), whole.begin() + 5}};
  Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{}), sink, {}, clock);
  ASSERT_TRUE(engine.submit(std::move(r)));
  ASSERT_TRUE(engine.submit(std::move(resumed)));
  ASSERT_TRUE(sink.wait(4));
  for (std::int32_t c = 0; c < 3; ++c) EXPECT_EQ((sink.tokens[{1, c}]), expected(alone, static_cast<std::uint32_t>(c)));
  EXPECT_EQ((sink.cached[{1, 1}]), 16);
  EXPECT_EQ((sink.cached[{1, 2}]), 16);
  EXPECT_EQ((sink.tokens[{2, 0}]), (std::vector<TokenId>{whole.begin() + 5, whole.end()}));
}

TEST(Engine, CancelDeadlineQueueAndErrors) {
  const SteadyClock clock;
  const auto slow = [](std::span<const SequenceStep>) -> Duration { return std::chrono::milliseconds(20); };
  Collector sink;
  Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{.latency = slow}), sink,
                {.max_running = 1, .max_waiting = 3}, clock);
  EXPECT_EQ(engine.submit(request(9, 0, 4)).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(engine.submit(request(9, 600, 4)).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(engine.submit(request(9, 200, 200)).error().code, ErrorCode::resource_exhausted);
  ASSERT_TRUE(engine.submit(request(1, 8, 200)));
  ASSERT_TRUE(sink.wait_tokens(1));
  EngineRequest late = request(2, 8, 4);
  late.deadline = clock.now() + std::chrono::milliseconds(10);
  ASSERT_TRUE(engine.submit(std::move(late)));
  ASSERT_TRUE(sink.wait(1));
  EXPECT_EQ((sink.finished[{2, 0}]), FinishReason::deadline);
  EngineRequest many = request(3, 8, 4);
  many.choices = 4;
  EXPECT_EQ(engine.submit(std::move(many)).error().code, ErrorCode::resource_exhausted);
  engine.cancel(RequestId{1});
  ASSERT_TRUE(sink.wait(2));
  EXPECT_EQ((sink.finished[{1, 0}]), FinishReason::cancelled);
  EXPECT_EQ(engine.stats().blocks_used, 0);
}

/// Order in which requests got their first token.
std::vector<std::uint64_t> order_of(const std::vector<TokenEvent>& events) {
  std::vector<std::uint64_t> out;
  for (const TokenEvent& e : events)
    if (e.token && e.index == 0) out.push_back(e.request.value);
  return out;
}

class Recorder final : public EventSink {
 public:
  void on_step(std::vector<TokenEvent> step) override {
    const std::lock_guard lock(mutex);
    for (TokenEvent& e : step) {
      finished += e.finish ? 1 : 0;
      events.push_back(std::move(e));
    }
    wake.notify_all();
  }
  void wait(int n) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(wake.wait_for(lock, std::chrono::seconds(120), [&] { return finished >= n; }));
  }
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<TokenEvent> events;
  int finished = 0;
};

TEST(Engine, OneThatDoesNotFitIsPassedButNotStarved) {
  const SteadyClock clock;
  std::promise<void> all_are_in;
  const auto slow = [gate = all_are_in.get_future().share()](std::span<const SequenceStep>) -> Duration {
    gate.wait();
    return std::chrono::microseconds(300);
  };
  Recorder sink;
  // 64 blocks of 4: the first takes 38 and stays, the big one needs 40, each small one 4.
  Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{.blocks = 64, .latency = slow}), sink,
                {.max_running = 8, .prefix_cache = false}, clock);
  ASSERT_TRUE(engine.submit(request(1, 146, 6)));
  EngineRequest first = request(2, 150, 90);
  ASSERT_TRUE(engine.submit(std::move(first)));
  ASSERT_TRUE(engine.submit(request(3, 158, 2)));
  for (std::uint64_t id = 10; id < 80; ++id) ASSERT_TRUE(engine.submit(request(id, 9, 5)));
  all_are_in.set_value();
  sink.wait(73);
  const std::vector<std::uint64_t> order = order_of(sink.events);
  const auto place = [&](std::uint64_t id) { return std::ranges::find(order, id) - order.begin(); };
  EXPECT_LT(place(10), place(3)) << "a small one went before the one that did not fit";
  EXPECT_LT(place(3), place(79)) << "but not all of them did";
}

/// Only even tokens, and after two of them only the stop token.
class EvenTokens final : public Constraint {
 public:
  void allowed(std::span<std::uint64_t> mask) override {
    for (std::uint64_t& word : mask) word &= 0x5555'5555'5555'5555ULL;
  }
  void accept(TokenId token) override { seen_.push_back(token); }

 private:
  std::vector<TokenId> seen_;
};

EngineRequest rich(std::uint64_t id, std::int32_t choices) {
  EngineRequest r = request(id, 11, 40);
  r.choices = choices;
  r.min_tokens = 6;
  r.stop_tokens = {4, 10, 20, 36, 48, 60, 72, 90};
  r.sampling.frequency_penalty = 0.5F;
  r.sampling.top_k = 30;
  r.sampling.logprobs = true;
  r.sampling.top_logprobs = 2;
  for (std::int32_t c = 0; c < choices; ++c) r.constraints.push_back(std::make_unique<EvenTokens>());
  return r;
}

TEST(Engine, ResumeKeepsChoicesConstraintsMinimaAndStopTokens) {
  const SteadyClock clock;
  Collector whole;
  {
    Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{}), whole, {}, clock);
    ASSERT_TRUE(engine.submit(rich(1, 3)));
    ASSERT_TRUE(whole.wait(3));
  }
  bool stopped = false;
  for (std::int32_t c = 0; c < 3; ++c) {
    const auto& tokens = whole.tokens[{1, c}];
    EXPECT_GE(tokens.size(), 7U);
    for (const TokenId t : tokens) EXPECT_EQ(t % 2, 0);
    stopped = stopped || whole.finished[{1, c}] == FinishReason::stop;
  }
  EXPECT_TRUE(stopped);
  for (std::size_t cut = 0; cut <= 40; cut += 3) {
    EngineRequest r = rich(1, 3);
    for (std::int32_t c = 0; c < 3; ++c) {
      const auto& tokens = whole.tokens[{1, c}];
      const std::size_t had = std::min(tokens.size(), cut + static_cast<std::size_t>(c));
      r.generated.emplace_back(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(had));
    }
    const auto had = r.generated;
    Collector rest;
    Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{.max_step_tokens = 6}), rest, {}, clock);
    ASSERT_TRUE(engine.submit(std::move(r)));
    ASSERT_TRUE(rest.wait(3));
    for (std::int32_t c = 0; c < 3; ++c) {
      std::vector<TokenId> together = had[static_cast<std::size_t>(c)];
      const auto& more = rest.tokens[{1, c}];
      together.insert(together.end(), more.begin(), more.end());
      EXPECT_EQ(together, (whole.tokens[{1, c}])) << "cut at " << cut;
      EXPECT_EQ((rest.finished[{1, c}]), (whole.finished[{1, c}])) << "cut at " << cut;
    }
  }
}

TEST(Engine, SubmitAndCancelFromManyThreads) {
  const SteadyClock clock;
  Collector sink;
  Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{.blocks = 48}), sink,
                {.max_running = 8, .max_waiting = 4096}, clock);
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 100; ++i) {
        const std::uint64_t id = 1 + t * 1000 + i;
        EXPECT_TRUE(engine.submit(request(id, static_cast<std::int32_t>(1 + i % 23), 12)));
        if (i % 3 == 0) engine.cancel(RequestId{id});
        if (i % 7 == 0) engine.cancel(RequestId{id}, 0);
        engine.cancel(RequestId{id + 100'000});
      }
    });
  threads.clear();
  ASSERT_TRUE(sink.wait(400));
  for (const auto& [key, tokens] : sink.tokens)
    if (sink.finished[key] != FinishReason::cancelled) {
      const auto i = (key.first - 1) % 1000;
      EXPECT_EQ(tokens, expected(request(key.first, static_cast<std::int32_t>(1 + i % 23), 12)));
    }
}

TEST(Engine, ALostDeviceEndsEveryRequest) {
  const SteadyClock clock;
  Collector sink;
  Engine engine(std::make_unique<FakeExecutor>(FakeExecutorOptions{.fail_from_step = 3}), sink, {}, clock);
  ASSERT_TRUE(engine.submit(request(1, 8, 50)));
  ASSERT_TRUE(sink.wait(1));
  EXPECT_EQ((sink.finished[{1, 0}]), FinishReason::error);
  EXPECT_EQ(engine.submit(request(2, 8, 50)).error().code, ErrorCode::unavailable);
}

}  // namespace
}  // namespace hp
