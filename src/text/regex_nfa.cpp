// The parser: recursive descent straight into nodes; a fragment is parsed again from its text for every repetition.
#include "text/regex_nfa.h"

#include <algorithm>
#include <limits>

#include "base/utf8.h"
#include "text/limits.h"

namespace hp {
namespace {

constexpr std::uint32_t kLastCode = 0x10FFFF;

const std::vector<CodeSpan>& universe() {
  static const std::vector<CodeSpan> kSpans = {{9, 10}, {13, 13}, {0x20, 0x7E}, {0xA0, 0xD7FF}, {0xE000, kLastCode}};
  return kSpans;
}

std::vector<CodeSpan> intersect(const std::vector<CodeSpan>& a, const std::vector<CodeSpan>& b) {
  std::vector<CodeSpan> out;
  for (const CodeSpan& x : a) {
    for (const CodeSpan& y : b) {
      if (x.first <= y.last && y.first <= x.last) out.push_back({std::max(x.first, y.first), std::min(x.last, y.last)});
    }
  }
  return out;
}

struct Fragment {
  std::uint32_t start, end;
};

class Parser {
 public:
  Parser(std::string_view pattern, RegexNfa& nfa) : text_(pattern), nfa_(nfa) {}

  Result<Fragment> whole() {
    HP_TRY(const Fragment all, alternatives(0));
    if (at_ < text_.size()) return bad("an unmatched ')'");
    return all;
  }

 private:
  [[nodiscard]] tl::unexpected<Error> bad(std::string_view what) const {
    return fail(ErrorCode::invalid_argument, "pattern: {} at offset {}", what, at_);
  }
  [[nodiscard]] bool next_is(std::string_view s) const { return text_.substr(at_).starts_with(s); }
  [[nodiscard]] bool at_end() const { return at_ >= text_.size() || text_[at_] == '|' || text_[at_] == ')'; }
  bool take(std::string_view s) {
    if (!next_is(s)) return false;
    at_ += s.size();
    return true;
  }
  Result<std::uint32_t> node() {
    if (nfa_.nodes.size() >= text_limits::kRegexNodesMax) {
      return fail(ErrorCode::invalid_argument,
                  "pattern: too large; expected at most {} nodes when repetitions are "
                  "written out",
                  text_limits::kRegexNodesMax);
    }
    nfa_.nodes.emplace_back();
    return static_cast<std::uint32_t>(nfa_.nodes.size() - 1);
  }
  void free(std::uint32_t from, std::uint32_t to) { nfa_.nodes[from].free.push_back(to); }

  Result<Fragment> alternatives(int depth);
  Result<Fragment> sequence(int depth);
  Result<Fragment> repeated(int depth);
  Result<Fragment> atom(int depth);
  Result<Fragment> edge(std::vector<CodeSpan> spans);
  Result<std::pair<int, int>> bounds();
  Result<std::uint32_t> escaped_code();
  bool shorthand(std::vector<CodeSpan>& spans, bool& opposite);
  Result<std::vector<CodeSpan>> char_class();

  std::string_view text_;
  RegexNfa& nfa_;
  std::size_t at_ = 0;
};

/// Each alternative may begin with ^ and end with $; without them anything may stand around it.
Result<Fragment> Parser::alternatives(int depth) {
  if (depth > text_limits::kRegexDepthMax) return bad("groups nested too deep");
  HP_TRY(const auto start, node());
  HP_TRY(const auto end, node());
  do {
    const bool anchored = take("^");
    if (anchored && depth > 0) return bad("^ inside of a group is not supported");
    HP_TRY(Fragment part, sequence(depth));
    const bool closed = take("$");
    if (closed && depth > 0) return bad("$ inside of a group is not supported");
    if (closed && !at_end()) return bad("$ is supported only at the end");
    if (depth == 0) {
      for (const auto& [wanted, where] : {std::pair{!anchored, part.start}, std::pair{!closed, part.end}}) {
        if (wanted) nfa_.nodes[where].edges.push_back({universe(), where});
      }
    }
    free(start, part.start);
    free(part.end, end);
  } while (take("|"));
  return Fragment{start, end};
}

Result<Fragment> Parser::sequence(int depth) {
  HP_TRY(const auto start, node());
  std::uint32_t end = start;
  if (depth == 0) {  // apart, so that the loops that stand for "anywhere" touch nothing else
    HP_TRY(end, node());
    free(start, end);
  }
  while (!at_end() && text_[at_] != '$') {
    HP_TRY(const Fragment part, repeated(depth));
    free(end, part.start);
    end = part.end;
  }
  HP_TRY(const auto last, node());
  free(end, last);
  return Fragment{start, last};
}

Result<std::pair<int, int>> Parser::bounds() {
  if (take("*")) return std::pair{0, -1};
  if (take("+")) return std::pair{1, -1};
  if (take("?")) return std::pair{0, 1};
  if (!next_is("{")) return std::pair{1, 1};
  const std::size_t close = text_.find('}', at_);
  const auto number = [&](int& out) {
    const std::size_t first = at_;
    long value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9' && at_ - first < 6) {
      value = value * 10 + (text_[at_++] - '0');
    }
    out = static_cast<int>(value);
    return at_ > first;
  };
  if (close == std::string_view::npos) return bad("a '{' without its '}'");
  take("{");
  int min = 0, max = 0;
  if (!number(min)) return bad("expected a number after '{'");
  max = min;
  if (take(",") && !number(max)) max = -1;
  if (!take("}")) return bad("expected '}'");
  if (max >= 0 && max < min) return bad("a repetition whose maximum is below its minimum");
  if (std::max(min, max) > text_limits::kRegexRepeatMax) return bad("a repetition count that is too large");
  return std::pair{min, max};
}

Result<Fragment> Parser::repeated(int depth) {
  const std::size_t begin = at_;
  HP_TRY(Fragment part, atom(depth));
  const std::size_t atom_end = at_;
  HP_TRY(const auto range, bounds());
  if (at_ > atom_end) take("?");  // lazy: the same strings
  if (at_ > atom_end && (next_is("*") || next_is("+") || next_is("?") || next_is("{"))) return bad("two repetitions");
  const std::size_t after = at_;
  const auto [min, max] = range;
  if (min == 1 && max == 1) return part;
  HP_TRY(const auto start, node());
  HP_TRY(const auto end, node());
  std::uint32_t last = start;
  bool used = false;  // the fragment parsed first serves once; the others are parsed again
  const auto again = [&]() -> Result<Fragment> {
    if (!std::exchange(used, true)) return part;
    at_ = begin;
    return atom(depth);
  };
  for (int i = 0; i < min; ++i) {
    HP_TRY(const Fragment copy, again());
    free(last, copy.start);
    last = copy.end;
  }
  if (max < 0) {
    HP_TRY(const Fragment copy, again());
    HP_TRY(const auto loop, node());
    free(last, loop);
    free(loop, copy.start);
    free(copy.end, loop);
    last = loop;
  }
  for (int i = min; i < max; ++i) {
    free(last, end);
    HP_TRY(const Fragment copy, again());
    free(last, copy.start);
    last = copy.end;
  }
  free(last, end);
  at_ = after;
  return Fragment{start, end};
}

Result<Fragment> Parser::edge(std::vector<CodeSpan> spans) {
  HP_TRY(const auto start, node());
  HP_TRY(const auto end, node());
  spans = normal_spans(std::move(spans));
  if (!spans.empty()) nfa_.nodes[start].edges.push_back({std::move(spans), end});
  return Fragment{start, end};
}

Result<Fragment> Parser::atom(int depth) {
  if (take("(")) {
    if (next_is("?") && !next_is("?:")) return bad("lookaround and named groups are not supported");
    take("?:");
    HP_TRY(const Fragment group, alternatives(depth + 1));
    if (!take(")")) return bad("a '(' without its ')'");
    return group;
  }
  if (next_is("[")) {
    HP_TRY(auto spans, char_class());
    return edge(std::move(spans));
  }
  if (take(".")) return edge(complement({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}));
  if (next_is("*") || next_is("+") || next_is("?")) return bad("a repetition of nothing");
  if (next_is("^")) return bad("^ is supported only at the beginning");
  std::vector<CodeSpan> spans;
  bool opposite = false;
  if (shorthand(spans, opposite)) return edge(std::move(spans));
  HP_TRY(const auto code, escaped_code());
  return edge({{code, code}});
}

/// \d \w \s and their opposites, which stay in ASCII.
bool Parser::shorthand(std::vector<CodeSpan>& spans, bool& opposite) {
  if (at_ + 1 >= text_.size() || text_[at_] != '\\') return false;
  std::vector<CodeSpan> set;
  switch (text_[at_ + 1] | 0x20) {
    case 'd':
      set = {{'0', '9'}};
      break;
    case 'w':
      set = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
      break;
    case 's':
      set = {{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};
      break;
    default:
      return false;
  }
  opposite = text_[at_ + 1] < 'a';
  if (opposite) set = intersect(complement(set), {{0, 0x7F}});
  spans.insert(spans.end(), set.begin(), set.end());
  at_ += 2;
  return true;
}

/// One character, written plainly or escaped.
Result<std::uint32_t> Parser::escaped_code() {
  if (!take("\\")) {
    const Utf8Step step = utf8_step(text_.substr(at_));
    if (!step.valid) return bad("expected a character");
    at_ += step.bytes;
    return step.codepoint;
  }
  if (at_ >= text_.size()) return bad("a '\\' at the end");
  const char c = text_[at_++];
  static constexpr std::string_view kNames = "nrtfv0", kCodes("\n\r\t\f\v\0", 6);
  if (const std::size_t name = kNames.find(c); name != std::string_view::npos) {
    return static_cast<std::uint32_t>(kCodes[name]);
  }
  if (c == 'x' || c == 'u') {
    std::uint32_t code = 0;
    const std::size_t digits = c == 'x' ? 2 : 4;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const char h = at_ < text_.size() ? text_[at_] : ' ';
      const bool decimal = h >= '0' && h <= '9';
      const char lower = static_cast<char>(h | 0x20);
      if (!decimal && (lower < 'a' || lower > 'f')) return bad("expected hexadecimal digits");
      code = code * 16 + static_cast<std::uint32_t>(decimal ? h - '0' : lower - 'a' + 10);
    }
    return code;
  }
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9')) {
    --at_;
    return bad("this escape is not supported");
  }
  return static_cast<std::uint32_t>(static_cast<unsigned char>(c));
}

Result<std::vector<CodeSpan>> Parser::char_class() {
  take("[");
  const bool negated = take("^");
  std::vector<CodeSpan> spans;
  bool shorthands = false;
  for (bool first = true; first || !next_is("]"); first = false) {
    if (at_ >= text_.size()) return bad("a '[' without its ']'");
    if (first && next_is("]")) break;
    bool opposite = false;
    if (shorthand(spans, opposite)) {
      shorthands = true;
      continue;
    }
    HP_TRY(const auto low, escaped_code());
    std::uint32_t high = low;
    if (next_is("-") && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
      take("-");
      HP_TRY(high, escaped_code());
      if (high < low) return bad("a range whose end is below its beginning");
    }
    spans.push_back({low, high});
  }
  take("]");
  if (!negated) return spans;
  auto rest = complement(spans);
  if (shorthands) rest = intersect(rest, {{0, 0x7F}});
  return rest;
}

}  // namespace

std::vector<CodeSpan> normal_spans(std::vector<CodeSpan> spans) {
  std::sort(spans.begin(), spans.end(), [](const CodeSpan& a, const CodeSpan& b) { return a.first < b.first; });
  std::vector<CodeSpan> merged;
  for (const CodeSpan& span : spans) {
    if (!merged.empty() && span.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, span.last);
    } else {
      merged.push_back(span);
    }
  }
  return intersect(merged, universe());
}

std::vector<CodeSpan> complement(const std::vector<CodeSpan>& spans) {
  std::vector<CodeSpan> sorted = spans;
  std::sort(sorted.begin(), sorted.end(), [](const CodeSpan& a, const CodeSpan& b) { return a.first < b.first; });
  std::vector<CodeSpan> out;
  std::uint32_t next = 0;
  for (const CodeSpan& span : sorted) {
    if (span.first > next) out.push_back({next, span.first - 1});
    next = std::max(next, span.last + 1);
  }
  if (next <= kLastCode) out.push_back({next, kLastCode});
  return normal_spans(std::move(out));
}

Result<RegexNfa> parse_pattern(std::string_view pattern) {
  if (pattern.size() > text_limits::kRegexBytesMax) {
    return fail(ErrorCode::invalid_argument, "pattern: {} bytes; expected at most {}", pattern.size(),
                text_limits::kRegexBytesMax);
  }
  RegexNfa nfa;
  HP_TRY(const Fragment whole, Parser(pattern, nfa).whole());
  nfa.start = whole.start;
  nfa.end = whole.end;
  return nfa;
}

}  // namespace hp
