// The Boost side of EventLoop. Private to this room.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <span>
#include <thread>
#include <unordered_map>

#include "net/event_loop.h"

namespace hp::net {

class AsioLoop final : public EventLoop {
 public:
  AsioLoop();
  ~AsioLoop() override;
  AsioLoop(const AsioLoop&) = delete;
  AsioLoop& operator=(const AsioLoop&) = delete;

  void post(std::function<void()> task) override;
  Timer after(std::chrono::milliseconds delay, std::function<void()> task) override;
  void cancel(Timer timer) override;
  [[nodiscard]] bool inside() const override { return std::this_thread::get_id() == thread_.get_id(); }

  boost::asio::io_context& io() { return io_; }
  /// Runs `task` on the loop and waits for its end; at once when called inside.
  void run_and_wait(const std::function<void()>& task);

 private:
  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::unordered_map<Timer, std::unique_ptr<boost::asio::steady_timer>> timers_;  // loop only
  std::atomic<Timer> next_{1};
  std::thread thread_;
};

/// Memory for one socket read, one per thread: a connection that waits owns no buffer. Valid until the next read.
std::span<char> read_scratch();

}  // namespace hp::net
