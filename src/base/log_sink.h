// Where log lines go: stderr, without ever waiting for who reads it. A pipe that nobody empties must not stop a server:
// lines that find no room are dropped and counted, and the count is the first thing said when there is room again.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace hp::log {

class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  StderrSink();
  /// Notes about dropped lines are JSON objects too.
  void use_json(bool json) { json_ = json; }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}
  bool put(std::string_view text);

  const bool colored_;
  std::atomic<bool> json_{false};
  std::uint64_t dropped_ = 0;
  bool broken_line_ = false;
};

}  // namespace hp::log
