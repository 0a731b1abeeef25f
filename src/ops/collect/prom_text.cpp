#include "ops/collect/prom_text.h"

#include <charconv>
#include <limits>

namespace hp::ops {
namespace {

constexpr bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';
}

void skip_blanks(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
}

std::string_view take_name(std::string_view& text) {
  std::size_t size = 0;
  while (size < text.size() && is_name_char(text[size])) ++size;
  const std::string_view name = text.substr(0, size);
  text.remove_prefix(size);
  return name;
}

/// The length of a quoted value with both quotes, or npos.
std::size_t quoted_size(std::string_view text) {
  if (text.empty() || text.front() != '"') return std::string_view::npos;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      return i + 1;
  }
  return std::string_view::npos;
}

/// Walks `a="b",c="d"`; false when it is not of that form. `see` returns false to stop.
template <typename See>
bool each_label(std::string_view text, const See& see) {
  skip_blanks(text);
  while (!text.empty()) {
    const std::string_view name = take_name(text);
    skip_blanks(text);
    if (name.empty() || text.empty() || text.front() != '=') return false;
    text.remove_prefix(1);
    skip_blanks(text);
    const std::size_t size = quoted_size(text);
    if (size == std::string_view::npos) return false;
    if (!see(name, text.substr(1, size - 2))) return true;
    text.remove_prefix(size);
    skip_blanks(text);
    if (!text.empty() && text.front() == ',')
      text.remove_prefix(1);
    else if (!text.empty())
      return false;
    skip_blanks(text);
  }
  return true;
}

/// The text between the braces; npos-safe over quoted braces.
std::optional<std::string_view> take_labels(std::string_view& text) {
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      const std::size_t size = quoted_size(text.substr(i));
      if (size == std::string_view::npos) return std::nullopt;
      i += size - 1;
    } else if (text[i] == '}') {
      const std::string_view labels = text.substr(1, i - 1);
      text.remove_prefix(i + 1);
      return labels;
    }
  }
  return std::nullopt;
}

std::optional<double> take_value(std::string_view text) {
  skip_blanks(text);
  std::string_view word = text.substr(0, text.find_first_of(" \t"));
  if (!word.empty() && word.front() == '+') word.remove_prefix(1);
  if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (word == "Inf") return std::numeric_limits<double>::infinity();
  if (word == "-Inf") return -std::numeric_limits<double>::infinity();
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

bool parse_line(std::string_view line, const std::function<void(const PromSample&)>& take) {
  PromSample sample{.name = take_name(line), .labels = {}};
  if (sample.name.empty()) return false;
  skip_blanks(line);
  if (!line.empty() && line.front() == '{') {
    const auto labels = take_labels(line);
    if (!labels) return false;
    sample.labels = *labels;
  }
  const auto value = take_value(line);
  if (!value) return false;
  sample.value = *value;
  take(sample);
  return true;
}

}  // namespace

std::size_t parse_prom_text(std::string_view page, const std::function<void(const PromSample&)>& take) {
  std::size_t strange = 0;
  while (!page.empty()) {
    std::string_view line = page.substr(0, page.find('\n'));
    page.remove_prefix(std::min(page.size(), line.size() + 1));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    skip_blanks(line);
    if (line.empty() || line.front() == '#') continue;
    if (!parse_line(line, take)) ++strange;
  }
  return strange;
}

std::optional<std::string> prom_label(std::string_view labels, std::string_view name) {
  std::optional<std::string> found;
  each_label(labels, [&](std::string_view key, std::string_view raw) {
    if (key != name) return true;
    std::string value;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] == '\\' && i + 1 < raw.size()) {
        ++i;
        value += raw[i] == 'n' ? '\n' : raw[i];
      } else {
        value += raw[i];
      }
    }
    found = std::move(value);
    return false;
  });
  return found;
}

}  // namespace hp::ops
