// The process log: one line per event on stderr, as text for people or as JSON lines for collectors. Set up once in
// main. Usage: `log_info("node ready", {{"model", name}, {"ms", ms}})` is spelled with fmt here: log::info("node ready
// model={}", name).
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace hp::log {

enum class Level { trace, debug, info, warn, error, off };
enum class Format { text, json };

struct Options {
  Level level = Level::info;
  Format format = Format::text;
};

void configure(const Options& options);
void set_level(Level level);  ///< while running, from any thread
bool enabled(Level level);
void write(Level level, std::string_view message);
/// The message is a JSON object already: a value of its own where the log is JSON, the same text otherwise.
void write_object(Level level, std::string_view json);

template <typename... Args>
void debug(fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, fmt::format(f, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, fmt::format(f, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::warn)) write(Level::warn, fmt::format(f, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> f, Args&&... args) {
  if (enabled(Level::error)) write(Level::error, fmt::format(f, std::forward<Args>(args)...));
}

}  // namespace hp::log
