// Text as code points with the classes that split patterns ask for. Only general categories: no normalization, no case
// folding.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace hp {

enum CharClass : std::uint8_t {
  kLetter = 1,   ///< \p{L}
  kNumber = 2,   ///< \p{N}
  kMark = 4,     ///< \p{M}
  kPunct = 8,    ///< \p{P}
  kSymbol = 16,  ///< \p{S}
  kSpace = 32,   ///< \s: White_Space
};

/// One character of a text. Bytes that are no valid UTF-8 count as U+FFFD (a symbol).
struct TextChar {
  char32_t code = 0;
  std::uint32_t offset = 0;  ///< of its first byte
  std::uint8_t classes = 0;
};

/// Classes of a code point, 0 for unassigned ones and controls that are no white space.
std::uint8_t char_classes(char32_t code);
/// All characters of `text`, whose length must fit 32 bits.
std::vector<TextChar> split_chars(std::string_view text);

}  // namespace hp
