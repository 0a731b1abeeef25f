#include "base/utf8.h"

#include <string>

namespace hp {
namespace {

struct Lead {
  int length;               // of the whole sequence; 0: no sequence begins with this byte
  unsigned char low, high;  // range of the second byte
};

Lead lead_of(unsigned char b) {
  if (b >= 0xC2 && b <= 0xDF) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b >= 0xE1 && b <= 0xEF) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b >= 0xF1 && b <= 0xF3) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Step utf8_step(std::string_view text) {
  if (text.empty()) return {};
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return {.bytes = 1, .valid = true, .codepoint = first};
  const Lead lead = lead_of(first);
  if (lead.length == 0) return {.bytes = 1};
  std::uint32_t codepoint = first & (0x7FU >> lead.length);
  for (std::size_t i = 1; i < static_cast<std::size_t>(lead.length); ++i) {
    if (i == text.size()) return {.bytes = i, .incomplete = true};
    const auto b = static_cast<unsigned char>(text[i]);
    const unsigned char low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (b < low || b > high) return {.bytes = i};
    codepoint = codepoint << 6 | (b & 0x3FU);
  }
  return {.bytes = static_cast<std::size_t>(lead.length), .valid = true, .codepoint = codepoint};
}

void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&out](std::uint32_t v) { out += static_cast<char>(static_cast<unsigned char>(v)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (!step.valid) return false;
    text.remove_prefix(step.bytes);
  }
  return true;
}

}  // namespace hp
