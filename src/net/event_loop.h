// One event-loop thread that a server, a client and timers can share, so that a request is handled on one thread from
// the client's socket to the node's and back. Without it each server and client makes threads of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace hp::net {

class EventLoop {
 public:
  static std::unique_ptr<EventLoop> create();
  /// Stops and joins the thread. Servers and clients on the loop are destroyed before it.
  virtual ~EventLoop() = default;

  using Timer = std::uint64_t;
  /// From any thread.
  virtual void post(std::function<void()> task) = 0;
  virtual Timer after(std::chrono::milliseconds delay, std::function<void()> task) = 0;
  /// Does nothing for a timer that has run; inside the loop a cancelled task never runs.
  virtual void cancel(Timer timer) = 0;
  [[nodiscard]] virtual bool inside() const = 0;
};

}  // namespace hp::net
