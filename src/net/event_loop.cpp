#include "net/event_loop.h"

#include <boost/asio/post.hpp>
#include <future>

#include "net/asio_loop.h"
#include "net/limits.h"

namespace hp::net {
namespace asio = boost::asio;

std::span<char> read_scratch() {
  static thread_local std::array<char, kReadScratchBytes> scratch;
  return scratch;
}

AsioLoop::AsioLoop() : io_(1), work_(asio::make_work_guard(io_)), thread_([this] { io_.run(); }) {}

AsioLoop::~AsioLoop() {
  io_.stop();
  thread_.join();
}

void AsioLoop::post(std::function<void()> task) {
  asio::post(io_, std::move(task));
}

EventLoop::Timer AsioLoop::after(std::chrono::milliseconds delay, std::function<void()> task) {
  const Timer id = next_++;
  auto arm = [this, id, due = std::chrono::steady_clock::now() + delay, task = std::move(task)] {
    auto timer = std::make_unique<asio::steady_timer>(io_, due);
    timer->async_wait([this, id, task](const boost::system::error_code& error) {
      if (error || timers_.erase(id) == 0) return;
      task();
    });
    timers_.emplace(id, std::move(timer));
  };
  if (inside()) {
    arm();
  } else {
    post(std::move(arm));
  }
  return id;
}

void AsioLoop::cancel(Timer timer) {
  if (inside()) {
    timers_.erase(timer);
  } else {
    post([this, timer] { timers_.erase(timer); });
  }
}

void AsioLoop::run_and_wait(const std::function<void()>& task) {
  if (inside()) return task();
  std::promise<void> done;
  post([&] {
    task();
    done.set_value();
  });
  done.get_future().get();
}

std::unique_ptr<EventLoop> EventLoop::create() {
  return std::make_unique<AsioLoop>();
}

}  // namespace hp::net
