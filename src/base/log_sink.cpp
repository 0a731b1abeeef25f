#include "base/log_sink.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

namespace hp::log {
namespace {

// Of a pipe: PIPE_BUF bytes fit. Files always have room, a terminal unless its user stopped it.
bool has_room() {
  pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0;
}

std::string_view color_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::info:
      return "\x1b[32m";
    case spdlog::level::warn:
      return "\x1b[33m\x1b[1m";
    case spdlog::level::err:
      return "\x1b[31m\x1b[1m";
    default:
      return "\x1b[36m";
  }
}

}  // namespace

StderrSink::StderrSink() : colored_(::isatty(STDERR_FILENO) == 1) {}

// False: there was no room for all of it.
bool StderrSink::put(std::string_view text) {
  while (!text.empty()) {
    if (!has_room()) return false;
    const ssize_t written = ::write(STDERR_FILENO, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
    broken_line_ = !text.empty();
  }
  return true;
}

void StderrSink::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t formatted;
  formatter_->format(message, formatted);
  std::string line(formatted.data(), formatted.size());
  if (colored_ && message.color_range_end > message.color_range_start) {
    line.insert(message.color_range_end, "\x1b[m");
    line.insert(message.color_range_start, color_of(message.level));
  }
  if (dropped_ > 0) {
    const std::string note = fmt::format(
        fmt::runtime(json_ ? "{}{{\"level\":\"warning\",\"message\":\"{} log lines were dropped: nobody read them\"}}\n"
                           : "{}warning {} log lines were dropped: nobody read them\n"),
        broken_line_ ? "\n" : "", dropped_);
    if (put(note)) dropped_ = 0;
  }
  if (dropped_ > 0 || !put(line)) ++dropped_;
}

}  // namespace hp::log
