#include "planner/language.h"

#include <algorithm>
#include <cmath>

namespace hp::planner {

std::optional<Language> language_from(std::string_view name) {
  if (name.substr(0, 2) == "en") return Language::en;
  if (name.substr(0, 2) == "zh") return Language::zh;
  return std::nullopt;
}

std::string grouped(double value, int decimals) {
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  if (!std::isfinite(value)) return text;
  const std::size_t start = text.front() == '-' ? 1 : 0;
  if (start == 1 && text.find_first_of("123456789") == std::string::npos) return grouped(0.0, decimals);
  const std::size_t point = std::min(text.find('.'), text.size());
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i > start && i < point && (point - i) % 3 == 0) out += ',';
    out += text[i];
  }
  return out;
}

std::string significant(double value, int digits) {
  if (value == 0.0 || !std::isfinite(value)) return grouped(value);
  const int before = static_cast<int>(std::floor(std::log10(std::fabs(value)))) + 1;
  return grouped(value, std::clamp(digits - before, 0, 9));
}

}  // namespace hp::planner
