// Deterministic automata over the bytes of a JSON string's inside (after the opening quote, before the closing one):
// any string, strings of a pattern, strings other than some. The closing quote is not in the tables: it may come in an
// accepting state.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace hp {

struct ByteDfa {
  static constexpr std::uint16_t kDead = 0xFFFF;
  std::vector<std::array<std::uint16_t, 256>> next;  ///< by state; state 0 is the start
  std::vector<bool> accepts;                         ///< between two characters, and the string may end here
  std::vector<bool> between;                         ///< between two characters

  std::uint16_t add_state(bool between_characters, bool accepting);
  [[nodiscard]] std::size_t size() const { return next.size(); }
  bool operator==(const ByteDfa&) const = default;
};

/// Every JSON string: UTF-8 and escapes (no escaped surrogates: characters beyond U+FFFF are written out).
const ByteDfa& any_string_dfa();

/// Every string without escapes that is none of `excluded`.
Result<ByteDfa> other_strings_dfa(std::span<const std::string> excluded);

/// Of the strings of `dfa` those of `min` to `max` characters (max < 0: any number). An error when there are none or
/// the automaton becomes too large.
Result<ByteDfa> with_length(const ByteDfa& dfa, std::int64_t min, std::int64_t max);

/// Removes states from which no accepting one can be reached; false when nothing is left.
bool prune(ByteDfa& dfa);

}  // namespace hp
