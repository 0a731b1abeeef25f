#include "cli/shutdown_signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <utility>

#include "base/log.h"

namespace hp::cli {
namespace {

sigset_t handled() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) sigaddset(&set, signal);
  return set;
}

}  // namespace

ShutdownSignals::ShutdownSignals() {
  const sigset_t set = handled();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { loop(); });
}

ShutdownSignals::~ShutdownSignals() {
  done_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR2);  // wakes sigwait
  thread_.join();
}

void ShutdownSignals::on_drain(std::function<void()> drain) {
  const std::lock_guard lock(mutex_);
  drain_ = std::move(drain);
}

void ShutdownSignals::on_reload(std::function<void()> reload) {
  const std::lock_guard lock(mutex_);
  reload_ = std::move(reload);
}

void ShutdownSignals::clear() {
  const std::lock_guard lock(mutex_);
  drain_ = nullptr;
  reload_ = nullptr;
}

void ShutdownSignals::loop() {
  const sigset_t set = handled();
  while (!done_) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0 || signal == SIGUSR2) continue;
    const std::lock_guard lock(mutex_);
    if (signal == SIGHUP) {
      if (reload_) reload_();
    } else if (drain_ && !draining_) {
      draining_ = true;
      log::info("draining: requests in progress finish, new ones are turned away; the same signal again ends at once");
      drain_();
    } else {
      log::info("ended by a signal");
      _exit(draining_ ? 1 : 128 + signal);
    }
  }
}

}  // namespace hp::cli
