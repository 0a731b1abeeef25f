#include "text/nfc.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <unordered_map>
#include <vector>

#include "base/utf8.h"

namespace hp {
namespace {

struct Pair {
  std::uint32_t code, first, second;
  bool composes;
};
constexpr Pair kPairs[] = {
#include "text/nfc_pairs.inc"
};
struct ClassRun {
  std::uint32_t first, last;
  std::uint8_t combining;
};
constexpr ClassRun kClasses[] = {
#include "text/nfc_classes.inc"
};

// Hangul syllables are computed (The Unicode Standard, section 3.12).
constexpr std::uint32_t kSyllable = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7;
constexpr std::uint32_t kLeads = 19, kVowels = 21, kTails = 28, kSyllables = kLeads * kVowels * kTails;

std::uint8_t combining_class(std::uint32_t code) {
  const auto* run = std::upper_bound(std::begin(kClasses), std::end(kClasses), code,
                                     [](std::uint32_t c, const ClassRun& r) { return c < r.first; });
  if (run == std::begin(kClasses)) return 0;
  --run;
  return code <= run->last ? run->combining : std::uint8_t{0};
}

struct Mark {
  std::uint32_t code;
  std::uint8_t combining;
};

void decompose(std::uint32_t code, std::vector<Mark>& out) {
  if (code >= kSyllable && code < kSyllable + kSyllables) {
    const std::uint32_t at = code - kSyllable;
    out.push_back({kLead + at / (kVowels * kTails), 0});
    out.push_back({kVowel + at % (kVowels * kTails) / kTails, 0});
    if (at % kTails != 0) out.push_back({kTail + at % kTails, 0});
    return;
  }
  const auto* pair = std::lower_bound(std::begin(kPairs), std::end(kPairs), code,
                                      [](const Pair& p, std::uint32_t c) { return p.code < c; });
  if (pair == std::end(kPairs) || pair->code != code) {
    out.push_back({code, combining_class(code)});
    return;
  }
  decompose(pair->first, out);
  if (pair->second != 0) decompose(pair->second, out);
}

/// 0 when the two do not compose.
std::uint32_t compose(std::uint32_t first, std::uint32_t second) {
  if (first >= kLead && first < kLead + kLeads && second >= kVowel && second < kVowel + kVowels) {
    return kSyllable + ((first - kLead) * kVowels + (second - kVowel)) * kTails;
  }
  if (first >= kSyllable && first < kSyllable + kSyllables && (first - kSyllable) % kTails == 0 && second > kTail &&
      second < kTail + kTails) {
    return first + (second - kTail);
  }
  static const auto kComposed = [] {
    std::unordered_map<std::uint64_t, std::uint32_t> map;
    for (const Pair& p : kPairs) {
      if (p.composes) map.emplace((static_cast<std::uint64_t>(p.first) << 32U) | p.second, p.code);
    }
    return map;
  }();
  const auto found = kComposed.find((static_cast<std::uint64_t>(first) << 32U) | second);
  return found == kComposed.end() ? 0 : found->second;
}

/// Canonical order, then composition, in place; `marks` is a stretch without invalid bytes.
void normalize(std::vector<Mark>& marks) {
  for (auto from = marks.begin(); from != marks.end();) {
    if (from->combining == 0) {
      ++from;
      continue;
    }
    const auto to = std::find_if(from, marks.end(), [](const Mark& m) { return m.combining == 0; });
    std::stable_sort(from, to, [](const Mark& a, const Mark& b) { return a.combining < b.combining; });
    from = to;
  }
  std::size_t out = 0;
  std::size_t starter = marks.size();  // none yet
  std::uint8_t last = 0;               // combining class of the character kept last, after the starter
  for (const Mark mark : marks) {
    const bool adjacent = starter < out && starter + 1 == out;
    const bool blocked = starter >= out || (!adjacent && (last == 0 || last >= mark.combining));
    if (!blocked) {
      if (const std::uint32_t whole = compose(marks[starter].code, mark.code); whole != 0) {
        marks[starter].code = whole;
        continue;
      }
    }
    if (mark.combining == 0) starter = out;
    last = mark.combining;
    marks[out++] = mark;
  }
  marks.resize(out);
}

}  // namespace

bool may_change_in_nfc(std::string_view text) {
  // Every character below U+0300 (lead bytes up to 0xCB) is its own NFC and composes with nothing before it.
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<std::uint8_t>(c) >= 0xCC; });
}

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> marks;
  const auto flush = [&] {
    normalize(marks);
    for (const Mark& mark : marks) append_utf8(out, mark.code);
    marks.clear();
  };
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.valid) {
      decompose(step.codepoint, marks);
    } else {
      flush();
      out += text.substr(0, step.bytes);
    }
    text.remove_prefix(step.bytes);
  }
  flush();
  return out;
}

}  // namespace hp
