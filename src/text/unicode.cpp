#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "base/utf8.h"

namespace hp {
namespace {

struct ClassRange {
  std::uint32_t first, last;
  std::uint8_t classes;
};
constexpr ClassRange kRanges[] = {
#include "text/unicode_ranges.inc"
};

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::uint8_t look_up(char32_t code) {
  if (is_white_space(code)) return kSpace;
  const auto* range = std::upper_bound(std::begin(kRanges), std::end(kRanges), code,
                                       [](char32_t c, const ClassRange& r) { return c < r.first; });
  if (range == std::begin(kRanges)) return 0;
  --range;
  return code <= range->last ? range->classes : std::uint8_t{0};
}

}  // namespace

std::uint8_t char_classes(char32_t code) {
  static const auto kAscii = [] {
    std::array<std::uint8_t, 128> table{};
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = look_up(static_cast<char32_t>(i));
    return table;
  }();
  return code < 128 ? kAscii[code] : look_up(code);
}

std::vector<TextChar> split_chars(std::string_view text) {
  std::vector<TextChar> chars;
  chars.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text.substr(at));
    const char32_t code = step.valid ? step.codepoint : 0xFFFD;
    chars.push_back({.code = code, .offset = static_cast<std::uint32_t>(at), .classes = char_classes(code)});
    at += step.bytes;
  }
  return chars;
}

}  // namespace hp
