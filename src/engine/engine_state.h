// The engine's inside, shared by engine.cpp (what comes in and goes out) and engine_step.cpp (one step). Locking:
// `mutex` guards the inbox, the cancellations and the published statistics; all else belongs to the engine's thread.
// Preemption, resume and a fresh prompt are one path: a sequence has tokens, some of them computed.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/check.h"
#include "engine/engine.h"
#include "engine/kv_pool.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace hp {

struct Engine::State {
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  State(std::unique_ptr<Executor> e, EventSink& s, const EngineOptions& o, const Clock& c)
      : executor(std::move(e)),
        info(executor->info()),
        sink(s),
        options(o),
        clock(c),
        pool(info.blocks),
        cache(pool, info.block_tokens, o.prefix_cache) {
    options.max_step_tokens = std::min(o.max_step_tokens, info.max_step_tokens);
    options.max_running = std::min({o.max_running, info.max_logit_rows, options.max_step_tokens});
    HP_CHECK(options.max_running > 0, "max_running, max_step_tokens and the executor's limits must be positive");
    step_tokens_now = options.max_step_tokens;
    running_now = options.max_running;
    published.blocks_total = info.blocks;
    stats = published;
  }

  void loop();
  void take_inbox();
  void accept(EngineRequest request);
  void apply_cancels();
  void apply_deadlines();
  void finish(Sequences& from, std::size_t i, FinishReason reason);
  void finish_all(FinishReason reason);
  void preempt(const StepPlan& plan);
  void admit_waiting(StepPlan& plan, const StepLimits& limits);
  [[nodiscard]] bool held_back(const Sequence& s) const;
  void attach(Sequence& s);
  void detach(Sequence& s);
  [[nodiscard]] static RunningView view(const Sequence& s);
  void view_running(const StepLimits& limits);
  void step();
  Status run(StepPlan plan);
  std::int32_t guess(Sequence& s, StepPlan& plan, std::int32_t& rows_left) const;
  void predict();
  void take_rows(Sequence& s, const StepLogits& logits, std::int32_t row, std::span<const TokenId> drafts);
  void index_full_blocks(Sequence& s);
  [[nodiscard]] static bool takes_the_best(const Sequence& s, std::int32_t drafts);
  [[nodiscard]] static std::optional<TokenDraw> draw_on_device(const Sequence& s, std::int32_t drafts);
  Result<Sample> draw(const Sequence& s, const StepLogits& logits, std::int32_t row);
  void sample(Sequence& s, const StepLogits& logits, std::int32_t row);
  void publish();

  std::unique_ptr<Executor> executor;
  const ExecutorInfo info;
  EventSink& sink;
  EngineOptions options;  ///< what it was built for; of these, in force now:
  std::atomic<std::int32_t> step_tokens_now{0}, running_now{0};
  const Clock& clock;

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<EngineRequest> inbox;
  std::int32_t inbox_sequences = 0;
  std::vector<std::pair<RequestId, std::int32_t>> cancels;
  bool stopping = false;
  bool lost = false;                        ///< the executor failed: nothing can run any more
  std::atomic<std::int64_t> step_since{0};  ///< the clock when the executor was called, in ns; 0: it is not
  EngineStats published;

  KvPool pool;
  PrefixCache cache;
  Sampler sampler;
  Sequences waiting;  ///< by rank
  Sequences running;
  std::vector<std::pair<Sequence*, FinishReason>> ended;
  std::vector<TokenEvent> events;
  // Of the step that runs, kept for their memory: what the plan sees, what the executor gets, whose it is (and its
  // guessed tokens).
  std::vector<RunningView> views;
  std::vector<SequenceStep> batch;
  std::vector<std::pair<Sequence*, std::int32_t>> members;
  std::uint64_t arrivals = 0;
  EngineStats stats;
  std::thread thread;
};

}  // namespace hp
