#include "cli/local_engine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>
#include <string>
#include <thread>
#include <utility>

namespace hp::cli {
namespace {

/// "Loading x … 3 s" on a terminal, rubbed out at the end.
class LoadingLine {
 public:
  explicit LoadingLine(std::string name) {
    if (isatty(STDERR_FILENO) == 0) return;
    thread_ = std::jthread([name = std::move(name)](const std::stop_token& stop) {
      for (int tenths = 0; !stop.stop_requested(); ++tenths) {
        if (tenths >= 5) fmt::print(stderr, "\rLoading {} … {} s", name, tenths / 10);
        std::fflush(stderr);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      std::fputs("\r\x1b[K", stderr);
    });
  }

 private:
  std::jthread thread_;
};

}  // namespace

Result<std::unique_ptr<LocalEngine>> LocalEngine::load(const LoadOptions& options,
                                                       const EngineOptions& engine_options) {
  const LoadingLine line(options.path.filename().string());
  HP_TRY(NodeModel model, load_model(options));
  return std::make_unique<LocalEngine>(std::move(model), engine_options);
}

LocalEngine::LocalEngine(NodeModel model, const EngineOptions& options)
    : model_(std::move(model)), engine_(std::make_unique<Engine>(std::move(model_.executor), *this, options, clock_)) {}

std::vector<TokenEvent> LocalEngine::take(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, at_most, [this] { return !events_.empty(); });
  return std::exchange(events_, {});
}

void LocalEngine::on_step(std::vector<TokenEvent> events) {
  const std::lock_guard lock(mutex_);
  events_.insert(events_.end(), std::make_move_iterator(events.begin()), std::make_move_iterator(events.end()));
  arrived_.notify_one();
}

}  // namespace hp::cli
