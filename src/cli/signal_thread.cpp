#include "cli/signal_thread.h"

#include <pthread.h>

#include <utility>

namespace hp::cli {

SignalThread::SignalThread(std::initializer_list<int> signals, std::function<void(int)> on_signal)
    : on_signal_(std::move(on_signal)) {
  sigemptyset(&set_);
  for (const int signal : signals) sigaddset(&set_, signal);
  sigaddset(&set_, SIGUSR2);  // wakes sigwait at the end
  pthread_sigmask(SIG_BLOCK, &set_, &before_);
  thread_ = std::thread([this] {
    while (!done_) {
      int signal = 0;
      if (sigwait(&set_, &signal) == 0 && signal != SIGUSR2) on_signal_(signal);
    }
  });
}

SignalThread::~SignalThread() {
  done_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR2);
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace hp::cli
