#include "cli/shutdown_signals.h"

#include <unistd.h>

#include <utility>

#include "base/log.h"

namespace hp::cli {

ShutdownSignals::ShutdownSignals() : thread_({SIGTERM, SIGINT, SIGHUP}, [this](int signal) { handle(signal); }) {}

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

void ShutdownSignals::handle(int signal) {
  const std::lock_guard lock(mutex_);
  if (signal == SIGHUP) {
    if (reload_) reload_();
  } else if (drain_ && !draining_) {
    draining_ = true;
    log::info("draining: requests in progress finish, new ones are turned away; the same signal again ends at once");
    drain_();
  } else {
    log::info("ended by a signal");
    _exit(128 + signal);
  }
}

}  // namespace hp::cli
