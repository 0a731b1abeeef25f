// Numbers appended to a text without a format string: for what is written once a request.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>

namespace hp {

inline void append_number(std::string& out, std::uint64_t value) {
  std::array<char, 20> digits;
  out.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
}

/// The lowest `digits` hex digits, in lower case, with leading zeros.
inline void append_hex(std::string& out, std::uint64_t value, std::size_t digits = 16) {
  for (std::size_t left = digits; left-- > 0;) out += "0123456789abcdef"[left < 16 ? (value >> (4 * left)) & 15 : 0];
}

}  // namespace hp
