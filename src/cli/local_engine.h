// A model with its engine in this process, for the commands that need no server.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "node/model_loader.h"

namespace hp::cli {

class LocalEngine final : public EventSink {
 public:
  /// Shows a line with the seconds while it loads, when stderr is a terminal.
  static Result<std::unique_ptr<LocalEngine>> load(const LoadOptions& options, const EngineOptions& engine_options);
  explicit LocalEngine(NodeModel model, const EngineOptions& options);

  /// What was loaded; the executor has gone into the engine.
  [[nodiscard]] const NodeModel& model() const { return model_; }
  [[nodiscard]] Engine& engine() { return *engine_; }
  [[nodiscard]] RequestId next_id() { return RequestId{++last_id_}; }
  /// The events since the last call; waits for some, at most so long.
  std::vector<TokenEvent> take(std::chrono::milliseconds at_most);

  void on_step(std::vector<TokenEvent> events) override;

 private:
  NodeModel model_;
  SteadyClock clock_;
  std::uint64_t last_id_ = 0;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<TokenEvent> events_;
  std::unique_ptr<Engine> engine_;  // last: its thread calls on_step()
};

}  // namespace hp::cli
