// A pattern is a sequence of stages, as in the families' tokenizer.json: every stage cuts every piece of the stage
// before into matches and the gaps between them. A matcher sees one piece only, so its end is the end of text.
#include "text/pre_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "text/unicode.h"

namespace hp {
namespace {

using Chars = std::span<const TextChar>;
/// The end of the match that starts at `i`, or `i` when there is none.
using Matcher = std::size_t (*)(Chars, std::size_t);

bool is(Chars t, std::size_t i, unsigned classes) {
  return i < t.size() && (t[i].classes & classes) != 0;
}

bool is_newline(Chars t, std::size_t i) {
  return i < t.size() && (t[i].code == '\r' || t[i].code == '\n');
}

bool is_ascii_letter(Chars t, std::size_t i) {
  return i < t.size() && ((t[i].code | 0x20U) >= 'a' && (t[i].code | 0x20U) <= 'z');
}

bool is_code(Chars t, std::size_t i, char32_t code) {
  return i < t.size() && t[i].code == code;
}

std::size_t run_of(Chars t, std::size_t i, unsigned classes) {
  while (is(t, i, classes)) ++i;
  return i;
}

/// [^\s\p{L}\p{N}]+
std::size_t run_of_other(Chars t, std::size_t i) {
  while (i < t.size() && !is(t, i, kSpace | kLetter | kNumber)) ++i;
  return i;
}

std::size_t run_of_newlines(Chars t, std::size_t i) {
  while (is_newline(t, i)) ++i;
  return i;
}

/// 's|'t|'re|'ve|'m|'ll|'d
std::size_t match_contraction(Chars t, std::size_t i, bool any_case) {
  if (!is_code(t, i, '\'')) return i;
  const auto letter = [&](std::size_t at) -> char32_t {
    if (at >= t.size()) return 0;
    return any_case && is_ascii_letter(t, at) ? (t[at].code | 0x20U) : t[at].code;
  };
  const char32_t a = letter(i + 1);
  const char32_t b = letter(i + 2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
  return i;
}

/// \s+(?!\S)|\s+ : a run of white space leaves its last character to the word that follows.
std::size_t match_space(Chars t, std::size_t i) {
  const std::size_t end = run_of(t, i, kSpace);
  return end == t.size() || end <= i + 1 ? end : end - 1;
}

/// \s*[\r\n]+|\s+(?!\S)|\s+
std::size_t match_lines_or_space(Chars t, std::size_t i) {
  const std::size_t end = run_of(t, i, kSpace);
  for (std::size_t last = end; last > i; --last) {
    if (is_newline(t, last - 1)) return last;
  }
  return match_space(t, i);
}

/// \p{N}
std::size_t match_digit(Chars t, std::size_t i) {
  return is(t, i, kNumber) ? i + 1 : i;
}

/// \p{N}{1,3}
std::size_t match_three_digits(Chars t, std::size_t i) {
  const std::size_t start = i;
  while (i < start + 3 && is(t, i, kNumber)) ++i;
  return i;
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t match_gpt2(Chars t, std::size_t i) {
  if (const std::size_t end = match_contraction(t, i, false); end > i) return end;
  const std::size_t word = is_code(t, i, ' ') ? i + 1 : i;
  if (const std::size_t end = run_of(t, word, kLetter); end > word) return end;
  if (const std::size_t end = run_of(t, word, kNumber); end > word) return end;
  if (const std::size_t end = run_of_other(t, word); end > word) return end;
  return match_space(t, i);
}

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
/// |\s+(?!\S)|\s+
std::size_t match_tiktoken(Chars t, std::size_t i, Matcher digits) {
  if (const std::size_t end = match_contraction(t, i, true); end > i) return end;
  const std::size_t word = is_newline(t, i) || is(t, i, kLetter | kNumber) ? i : i + 1;
  if (const std::size_t end = run_of(t, word, kLetter); end > word) return end;
  if (const std::size_t end = digits(t, i); end > i) return end;
  const std::size_t other = is_code(t, i, ' ') ? i + 1 : i;
  if (const std::size_t end = run_of_other(t, other); end > other) return run_of_newlines(t, end);
  return match_lines_or_space(t, i);
}

std::size_t match_llama3(Chars t, std::size_t i) {
  return match_tiktoken(t, i, match_three_digits);
}

std::size_t match_qwen2(Chars t, std::size_t i) {
  return match_tiktoken(t, i, match_digit);
}

/// [一-龥぀-ゟ゠-ヿ]+
std::size_t match_cjk(Chars t, std::size_t i) {
  while (i < t.size() &&
         ((t[i].code >= 0x4E00 && t[i].code <= 0x9FA5) || (t[i].code >= 0x3040 && t[i].code <= 0x30FF))) {
    ++i;
  }
  return i;
}

/// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*
/// |\s*[\r\n]+|\s+(?!\S)|\s+
std::size_t match_deepseek_v3(Chars t, std::size_t i) {
  if (t[i].code < 128 && is(t, i, kPunct | kSymbol)) {
    std::size_t end = i + 1;
    while (is_ascii_letter(t, end)) ++end;
    if (end > i + 1) return end;
  }
  const std::size_t word = is_newline(t, i) || is(t, i, kLetter | kPunct | kSymbol) ? i : i + 1;
  if (const std::size_t end = run_of(t, word, kLetter | kMark); end > word) return end;
  if (const std::size_t end = run_of(t, i, kLetter | kMark); end > i) return end;
  const std::size_t marks = is_code(t, i, ' ') ? i + 1 : i;
  if (const std::size_t end = run_of(t, marks, kPunct | kSymbol); end > marks) return run_of_newlines(t, end);
  return match_lines_or_space(t, i);
}

/// [\r\n]
std::size_t match_newline(Chars t, std::size_t i) {
  return is_newline(t, i) ? i + 1 : i;
}

/// \s?CLASS+ : at most one character of white space, then a run of what `in` says.
template <typename Predicate>
std::size_t match_spaced_run(Chars t, std::size_t i, Predicate in) {
  const std::size_t start = is(t, i, kSpace) ? i + 1 : i;
  std::size_t end = start;
  while (end < t.size() && in(t[end])) ++end;
  return end > start ? end : i;
}

struct CodeRange {
  std::uint32_t first, last;
};
constexpr CodeRange kCasedRanges[] = {
#include "text/cased_ranges.inc"
};

bool is_cased_letter(const TextChar& c) {
  if (c.code < 128) return (c.code | 0x20U) >= 'a' && (c.code | 0x20U) <= 'z';
  const auto* range = std::upper_bound(std::begin(kCasedRanges), std::end(kCasedRanges), c.code,
                                       [](char32_t code, const CodeRange& r) { return code < r.first; });
  return range != std::begin(kCasedRanges) && c.code <= std::prev(range)->last;
}

std::size_t match_deepseek_llm_letters(Chars t, std::size_t i) {
  return match_spaced_run(t, i, is_cased_letter);
}

/// \s?[!-/:-~！-／：-～‘-‟　-。]+ : ":-~" holds the ASCII letters too, "：-～" the full-width ones.
std::size_t match_deepseek_llm_marks(Chars t, std::size_t i) {
  return match_spaced_run(t, i, [](const TextChar& c) {
    return (c.code >= '!' && c.code <= '/') || (c.code >= ':' && c.code <= '~') ||
           (c.code >= 0xFF01 && c.code <= 0xFF0F) || (c.code >= 0xFF1A && c.code <= 0xFF5E) ||
           (c.code >= 0x2018 && c.code <= 0x201F) || (c.code >= 0x3000 && c.code <= 0x3002);
  });
}

/// \s+$ : tried at the start of a run only, which keeps long runs linear and loses no match.
std::size_t match_trailing_space(Chars t, std::size_t i) {
  if (i > 0 && is(t, i - 1, kSpace)) return i;
  const std::size_t end = run_of(t, i, kSpace);
  return end == t.size() ? end : i;
}

/// [一-龥ࠀ-一가-퟿]+
std::size_t match_east_asian(Chars t, std::size_t i) {
  while (i < t.size() &&
         ((t[i].code >= 0x800 && t[i].code <= 0x9FA5) || (t[i].code >= 0xAC00 && t[i].code <= 0xD7FF))) {
    ++i;
  }
  return i;
}

std::size_t match_coder_letters(Chars t, std::size_t i) {
  return match_spaced_run(t, i, [](const TextChar& c) { return (c.classes & kLetter) != 0; });
}

std::size_t match_coder_marks(Chars t, std::size_t i) {
  return match_spaced_run(t, i, [](const TextChar& c) { return (c.classes & kPunct) != 0; });
}

std::span<const Matcher> stages_of(PreTokenizer pre) {
  static constexpr Matcher kSmollm[] = {match_digit, match_gpt2};
  static constexpr Matcher kGpt2[] = {match_gpt2};
  static constexpr Matcher kLlama3[] = {match_llama3};
  static constexpr Matcher kQwen2[] = {match_qwen2};
  static constexpr Matcher kDeepseekV3[] = {match_three_digits, match_cjk, match_deepseek_v3};
  static constexpr Matcher kDeepseekLlm[] = {match_newline,        match_deepseek_llm_letters, match_deepseek_llm_marks,
                                             match_trailing_space, match_east_asian,           match_digit};
  static constexpr Matcher kDeepseekCoder[] = {match_newline, match_coder_letters, match_coder_marks, match_east_asian,
                                               match_digit};
  switch (pre) {
    case PreTokenizer::smollm:
      return kSmollm;
    case PreTokenizer::gpt2:
      return kGpt2;
    case PreTokenizer::llama3:
      return kLlama3;
    case PreTokenizer::qwen2:
      return kQwen2;
    case PreTokenizer::deepseek_v3:
      return kDeepseekV3;
    case PreTokenizer::deepseek_llm:
      return kDeepseekLlm;
    case PreTokenizer::deepseek_coder:
      return kDeepseekCoder;
    case PreTokenizer::none:
      break;
  }
  return {};
}

/// Cuts one piece; appends the ends of its parts (as indices into the whole text, `base` is the piece's start).
void cut(Chars piece, std::size_t base, Matcher match, std::vector<std::size_t>& ends) {
  std::size_t gap = 0;
  for (std::size_t i = 0; i < piece.size();) {
    const std::size_t end = match(piece, i);
    if (end == i) {
      ++i;
      continue;
    }
    if (gap < i) ends.push_back(base + i);
    ends.push_back(base + end);
    i = gap = end;
  }
  if (gap < piece.size()) ends.push_back(base + piece.size());
}

}  // namespace

std::vector<std::string_view> pre_tokenize(PreTokenizer pre, std::string_view text) {
  if (text.empty()) return {};
  const std::vector<TextChar> chars = split_chars(text);
  std::vector<std::size_t> ends = {chars.size()};
  for (const Matcher match : stages_of(pre)) {
    std::vector<std::size_t> finer;
    std::size_t start = 0;
    for (const std::size_t end : ends) {
      cut(Chars(chars).subspan(start, end - start), start, match, finer);
      start = end;
    }
    ends = std::move(finer);
  }
  std::vector<std::string_view> words;
  words.reserve(ends.size());
  std::size_t from = 0;
  for (const std::size_t end : ends) {
    const std::size_t to = end < chars.size() ? chars[end].offset : text.size();
    words.push_back(text.substr(from, to - from));
    from = to;
  }
  return words;
}

}  // namespace hp
