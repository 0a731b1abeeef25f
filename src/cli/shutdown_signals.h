// What signals mean to a serving process. Made before any other thread, so that all of them leave the signals to it.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

namespace hp::cli {

/// SIGTERM and SIGINT: the first drains, the second ends the process at once. SIGHUP reloads. Until on_drain() is
/// given, the first one ends the process.
class ShutdownSignals final {
 public:
  ShutdownSignals();
  ~ShutdownSignals();
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;

  /// What these functions capture must live until clear() or the destructor.
  void on_drain(std::function<void()> drain);
  void on_reload(std::function<void()> reload);
  void clear();
  [[nodiscard]] bool draining() const { return draining_; }

 private:
  void loop();

  std::mutex mutex_;
  std::function<void()> drain_, reload_;
  std::atomic<bool> draining_ = false, done_ = false;
  std::thread thread_;
};

}  // namespace hp::cli
