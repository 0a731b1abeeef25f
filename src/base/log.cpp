#include "base/log.h"

#include <fmt/chrono.h>
#include <spdlog/spdlog.h>

#include <array>
#include <chrono>
#include <memory>

#include "base/black_box.h"
#include "base/json.h"
#include "base/log_sink.h"

namespace hp::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::trace:
      return spdlog::level::trace;
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
    case Level::off:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

/// One event is one line: what a client sent must not be able to forge a second one or to steer a terminal.
std::string printable(std::string_view message) {
  std::string out;
  out.reserve(message.size());
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t') || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

struct Sink {
  std::shared_ptr<StderrSink> out = std::make_shared<StderrSink>();
  std::shared_ptr<spdlog::logger> logger = std::make_shared<spdlog::logger>("homeport", out);
  Format format = Format::text;
};

Sink& sink() {
  static Sink instance;
  return instance;
}

/// For who looks when this process no longer answers (black_box.h).
void remember(Level level, std::string_view text) {
  if (!enabled(level)) return;
  static constexpr std::array<std::string_view, 6> kNames{"trace", "debug", "info", "warning", "error", "off"};
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  black_box::append(fmt::format("{:%FT%T}Z {} {}", now, kNames[static_cast<std::size_t>(level)], text));
}

}  // namespace

void configure(const Options& options) {
  Sink& s = sink();
  s.format = options.format;
  s.out->use_json(options.format == Format::json);
  s.logger->set_level(to_spdlog(options.level));
  s.logger->set_pattern(options.format == Format::json
                            ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%v})"
                            : "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
}

void set_level(Level level) {
  sink().logger->set_level(to_spdlog(level));
}

bool enabled(Level level) {
  return sink().logger->should_log(to_spdlog(level));
}

void write(Level level, std::string_view message) {
  Sink& s = sink();
  std::string text;
  if (s.format == Format::json) {
    append_json_string(text, message);
  } else {
    text = printable(message);
  }
  s.logger->log(to_spdlog(level), "{}", text);
  remember(level, text);
}

void write_object(Level level, std::string_view json) {
  remember(level, json);
  sink().logger->log(to_spdlog(level), "{}", json);
}

}  // namespace hp::log
