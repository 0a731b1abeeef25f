// The engine: owns sequences, KV blocks and the step loop over one Executor. schedule → step → sample → report.
// submit() and cancel() may be called from any thread; everything else happens on the engine's own thread.
#pragma once

#include <cstdint>
#include <memory>

#include "arch/executor.h"
#include "base/clock.h"
#include "base/result.h"
#include "engine/request.h"

namespace hp {

struct EngineOptions {
  std::int32_t max_step_tokens = 512;  ///< prefill and decode tokens of one step together (chunk size)
  std::int32_t max_running = 256;      ///< sequences with KV blocks at once
  std::int32_t max_waiting = 1024;     ///< submit() answers resource_exhausted beyond
  bool prefix_cache = true;
  std::int32_t max_draft_tokens =
      0;  ///< speculation: tokens guessed ahead per sequence, 0: off; same output either way
};

/// A snapshot for metrics, admission and watchdogs.
struct EngineStats {
  std::int32_t running = 0, waiting = 0;                              ///< sequences
  std::int32_t blocks_total = 0, blocks_used = 0, blocks_cached = 0;  ///< cached: unreferenced, in the prefix tree
  std::uint64_t steps = 0, failed_steps = 0, prompt_tokens = 0, generated_tokens = 0, preemptions = 0;
  std::uint64_t prefix_queries = 0, prefix_hits = 0;   ///< tokens looked up, tokens found
  std::uint64_t step_tokens = 0;                       ///< tokens run through the executor: the progress heartbeat
  std::uint64_t draft_tokens = 0, draft_accepted = 0;  ///< speculation: guessed, and taken
  std::int64_t waiting_tokens = 0;                     ///< prompt tokens not yet prefilled
};

class Engine {
 public:
  Engine(std::unique_ptr<Executor> executor, EventSink& sink, const EngineOptions& options, const Clock& clock);
  ~Engine();  ///< stops; running requests end with FinishReason::cancelled
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Takes a request in, or says why not: invalid_argument (prompt longer than the context, empty, token out of range),
  /// resource_exhausted (queue full, or more KV than the whole pool).
  Status submit(EngineRequest request);
  /// Ends one choice, or all with choice < 0, within one step; its blocks go back to the prefix tree. Unknown ids are
  /// fine. No further events come for it once the step in flight has ended.
  void cancel(RequestId id, std::int32_t choice = -1);

  /// Smaller steps and fewer sequences at once, from the next step on; both are held between 1 and what the engine was
  /// built for. Sequences that run already go on. 0: leaves it as it is.
  struct Limits {
    std::int32_t max_step_tokens = 0, max_running = 0;
  };
  void set_limits(Limits limits);
  [[nodiscard]] Limits limits() const;
  [[nodiscard]] Limits built_for() const;

  [[nodiscard]] const ExecutorInfo& info() const;
  [[nodiscard]] EngineStats stats() const;
  /// How long the executor has been at the step that it runs now; zero between steps. Never waits for it.
  [[nodiscard]] Duration in_step() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hp
