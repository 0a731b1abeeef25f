// What signals mean to a serving process: SIGTERM and SIGINT drain the first time and end the process the second time;
// SIGHUP reloads. Until on_drain() is given, the first one ends the process.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>

#include "cli/signal_thread.h"

namespace hp::cli {

class ShutdownSignals final {
 public:
  ShutdownSignals();

  /// What these functions capture must live until clear() or the destructor.
  void on_drain(std::function<void()> drain);
  void on_reload(std::function<void()> reload);
  void clear();

 private:
  void handle(int signal);

  std::mutex mutex_;
  std::function<void()> drain_, reload_;
  std::atomic<bool> draining_ = false;
  SignalThread thread_;  // last: it calls handle()
};

}  // namespace hp::cli
