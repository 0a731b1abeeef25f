// Nondeterministic automaton over code points, the way from a pattern to its ByteDfa. Private to the regex_* files.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp {

struct CodeSpan {
  std::uint32_t first, last;
};

struct RegexNfa {
  struct Edge {
    std::vector<CodeSpan> spans;
    std::uint32_t to;
  };
  struct Node {
    std::vector<Edge> edges;
    std::vector<std::uint32_t> free;  ///< without a character
  };
  std::vector<Node> nodes;
  std::uint32_t start = 0, end = 0;
};

/// Sorted, disjoint, inside of what a string may hold: tab, line feed, return, from space on, no surrogates.
std::vector<CodeSpan> normal_spans(std::vector<CodeSpan> spans);
std::vector<CodeSpan> complement(const std::vector<CodeSpan>& spans);

Result<RegexNfa> parse_pattern(std::string_view pattern);

}  // namespace hp
