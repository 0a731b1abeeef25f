// The node's figures, under Homeport's own names and under the vllm:* names that dashboards and autoscalers read.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/engine.h"

namespace hp {

/// One request as it ended.
struct RequestRecord {
  std::string_view finished_reason;  ///< stop, length, abort, error
  std::int64_t generated_tokens = 0;
  Duration end_to_end{}, queued{}, first_token{};  ///< first_token: from arrival; zero without a token
};

class NodeMetrics {
 public:
  NodeMetrics(MetricsRegistry& registry, const std::string& model, const Engine& engine);

  void request_ended(const RequestRecord& record);
  void first_token(Duration since_arrival) { ttft_.observe(to_seconds(since_arrival)); }
  void next_token(Duration since_last) { inter_token_.observe(to_seconds(since_last)); }
  void rejected(std::string_view reason);
  void disconnected() { disconnects_.add(); }
  void slow_reader() { slow_readers_.add(); }
  void resumed() { resumed_.add(); }

  /// Brings the counters that the engine keeps up to date; before the page is rendered.
  void refresh();

 private:
  void add_gauges(const Engine& engine);

  MetricsRegistry& registry_;
  const Engine& engine_;
  const Labels labels_;
  Histogram &ttft_, &inter_token_, &per_token_, &end_to_end_, &queue_, &inference_, &prefill_, &decode_, &iteration_;
  Counter &disconnects_, &slow_readers_, &resumed_;
  std::mutex mutex_;
  EngineStats seen_;  // under mutex_
};

}  // namespace hp
