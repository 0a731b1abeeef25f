// Signals as calls on a thread of their own: nothing has to be safe inside a handler. Make it before other threads, so
// that they all leave these signals to it.
#pragma once

#include <atomic>
#include <csignal>
#include <functional>
#include <initializer_list>
#include <thread>

namespace hp::cli {

class SignalThread final {
 public:
  SignalThread(std::initializer_list<int> signals, std::function<void(int signal)> on_signal);
  ~SignalThread();  ///< the signals stay blocked in the threads that were made meanwhile, not in the caller's
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  std::function<void(int)> on_signal_;
  sigset_t set_{}, before_{};
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

}  // namespace hp::cli
