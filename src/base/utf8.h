// One step of UTF-8 decoding, shared by everything that must tell whole characters from broken bytes.
// Source: Unicode 15, table 3-7 (well-formed byte sequences) and U+FFFD substitution of maximal subparts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hp {

struct Utf8Step {
  std::size_t bytes = 0;        ///< length of the character, or of the maximal broken part; 0 only for empty text
  bool valid = false;           ///< a whole, well-formed character
  bool incomplete = false;      ///< the text ends inside what may still become a character
  std::uint32_t codepoint = 0;  ///< when valid
};

/// Looks at the first character of `text`.
Utf8Step utf8_step(std::string_view text);

/// Appends a code point (a Unicode scalar value).
void append_utf8(std::string& out, std::uint32_t codepoint);

bool is_valid_utf8(std::string_view text);

}  // namespace hp
