// The planner speaks English and Chinese: every sentence that a person reads exists in both.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace hp::planner {

enum class Language { en, zh };

/// "en" or "zh" (also "en_US.UTF-8", "zh-CN"); empty for anything else.
std::optional<Language> language_from(std::string_view name);

struct Phrase {
  std::string_view en, zh;
  [[nodiscard]] std::string_view in(Language language) const { return language == Language::zh ? zh : en; }
};

/// Formats the phrase of that language; both must take the same arguments.
template <typename... Args>
std::string say(Language language, Phrase phrase, const Args&... args) {
  return fmt::format(fmt::runtime(phrase.in(language)), args...);
}

/// 1234567.8 with 1 decimal: "1,234,567.8".
std::string grouped(double value, int decimals = 0);
/// As few digits as needed for `digits` significant ones, grouped: 0.0123, 12.3, 1,230.
std::string significant(double value, int digits = 3);

}  // namespace hp::planner
