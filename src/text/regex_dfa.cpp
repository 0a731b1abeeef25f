// Code points become byte sequences (JSON escapes where a string needs them), then subsets of nodes become states.
#include "text/regex_dfa.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/utf8.h"
#include "text/limits.h"
#include "text/regex_nfa.h"

namespace hp {
namespace {

struct ByteEdge {
  std::uint8_t low, high;
  std::uint32_t to;
};

/// The pattern's nodes first, then the insides of characters.
struct ByteNfa {
  std::vector<std::vector<ByteEdge>> edges;
  std::vector<std::vector<std::uint32_t>> free;
  std::uint32_t start = 0, end = 0, characters = 0;

  std::uint32_t add() {
    edges.emplace_back();
    free.emplace_back();
    return static_cast<std::uint32_t>(edges.size() - 1);
  }
  void sequence(std::uint32_t from, std::string_view low, std::string_view high, std::uint32_t to) {
    for (std::size_t i = 0; i < low.size(); ++i) {
      const std::uint32_t next = i + 1 == low.size() ? to : add();
      edges[from].push_back({static_cast<std::uint8_t>(low[i]), static_cast<std::uint8_t>(high[i]), next});
      from = next;
    }
  }
};

std::string utf8(std::uint32_t code) {
  std::string out;
  append_utf8(out, code);
  return out;
}

/// Splits a range of code points so that each part is one product of byte ranges.
void add_utf8(ByteNfa& nfa, std::uint32_t from, CodeSpan span, std::uint32_t to) {
  for (const std::uint32_t edge : {0x7FU, 0x7FFU, 0xFFFFU}) {
    if (span.first <= edge && span.last > edge) {
      add_utf8(nfa, from, {span.first, edge}, to);
      add_utf8(nfa, from, {edge + 1, span.last}, to);
      return;
    }
  }
  const std::size_t bytes = utf8(span.first).size();
  for (std::size_t tail = 1; tail < bytes; ++tail) {
    const std::uint32_t mask = (1U << (6 * tail)) - 1;
    if ((span.first & ~mask) == (span.last & ~mask)) continue;
    if ((span.first & mask) != 0) {
      add_utf8(nfa, from, {span.first, span.first | mask}, to);
      add_utf8(nfa, from, {(span.first | mask) + 1, span.last}, to);
      return;
    }
    if ((span.last & mask) != mask) {
      add_utf8(nfa, from, {span.first, (span.last & ~mask) - 1}, to);
      add_utf8(nfa, from, {span.last & ~mask, span.last}, to);
      return;
    }
  }
  nfa.sequence(from, utf8(span.first), utf8(span.last), to);
}

void add_span(ByteNfa& nfa, std::uint32_t from, CodeSpan span, std::uint32_t to) {
  static constexpr std::pair<std::uint32_t, std::string_view> kEscapes[] = {
      {'\t', "\\t"}, {'\n', "\\n"}, {'\r', "\\r"}, {'"', "\\\""}, {'\\', "\\\\"}};
  for (const auto& [code, spelling] : kEscapes) {
    if (code < span.first || code > span.last) continue;
    nfa.sequence(from, spelling, spelling, to);
    if (code > span.first) add_span(nfa, from, {span.first, code - 1}, to);
    if (code < span.last) add_span(nfa, from, {code + 1, span.last}, to);
    return;
  }
  if (span.last >= 0x20) add_utf8(nfa, from, {std::max(span.first, 0x20U), span.last}, to);
}

ByteNfa to_bytes(const RegexNfa& regex) {
  ByteNfa nfa;
  for (const auto& node : regex.nodes) nfa.free[nfa.add()] = node.free;
  nfa.characters = static_cast<std::uint32_t>(regex.nodes.size());
  nfa.start = regex.start;
  nfa.end = regex.end;
  for (std::uint32_t from = 0; from < nfa.characters; ++from) {
    for (const auto& edge : regex.nodes[from].edges) {
      for (const CodeSpan& span : edge.spans) add_span(nfa, from, span, edge.to);
    }
  }
  return nfa;
}

using Subset = std::vector<std::uint32_t>;

class SubsetBuilder {
 public:
  explicit SubsetBuilder(const ByteNfa& nfa) : nfa_(nfa), seen_(nfa.edges.size(), 0) {}

  Result<ByteDfa> build() {
    HP_TRY_VOID(state_of({nfa_.start}));
    for (std::size_t done = 0; done < subsets_.size(); ++done) HP_TRY_VOID(expand(done));
    if (!prune(dfa_)) return fail(ErrorCode::invalid_argument, "pattern: it matches no string that JSON can hold");
    return std::move(dfa_);
  }

 private:
  /// With everything that can be reached without a byte, sorted.
  Subset closed(Subset nodes) {
    ++stamp_;
    Subset out;
    while (!nodes.empty()) {
      const std::uint32_t node = nodes.back();
      nodes.pop_back();
      if (std::exchange(seen_[node], stamp_) == stamp_) continue;
      out.push_back(node);
      for (const std::uint32_t to : nfa_.free[node]) nodes.push_back(to);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  Result<std::uint16_t> state_of(Subset nodes) {
    Subset subset = closed(std::move(nodes));
    const auto known = states_.find(subset);
    if (known != states_.end()) return known->second;
    work_ += subset.size();
    if (dfa_.size() >= text_limits::kDfaStatesMax || work_ > text_limits::kRegexWorkMax) {
      return fail(ErrorCode::invalid_argument, "pattern: it needs more than {} states; use a simpler one",
                  text_limits::kDfaStatesMax);
    }
    const bool between = subset.front() < nfa_.characters;
    const bool accepts = std::binary_search(subset.begin(), subset.end(), nfa_.end);
    const std::uint16_t state = dfa_.add_state(between, accepts);
    states_.emplace(subset, state);
    subsets_.push_back(std::move(subset));
    return state;
  }

  Status expand(std::size_t state) {
    // Bytes with the same targets are found by cutting at every edge's ends.
    std::vector<ByteEdge> edges;
    std::array<bool, 257> cut{};
    for (const std::uint32_t node : subsets_[state]) {
      for (const ByteEdge& edge : nfa_.edges[node]) {
        edges.push_back(edge);
        cut[edge.low] = cut[edge.high + 1U] = true;
      }
    }
    for (std::size_t byte = 0; byte < 256;) {
      std::size_t end = byte + 1;
      while (end < 256 && !cut[end]) ++end;
      Subset targets;
      for (const ByteEdge& edge : edges) {
        if (edge.low <= byte && byte <= edge.high) targets.push_back(edge.to);
      }
      if (!targets.empty()) {
        HP_TRY(const std::uint16_t to, state_of(std::move(targets)));
        for (std::size_t b = byte; b < end; ++b) dfa_.next[state][b] = to;
      }
      byte = end;
    }
    return {};
  }

  const ByteNfa& nfa_;
  std::vector<std::uint32_t> seen_;
  std::uint32_t stamp_ = 0;
  std::size_t work_ = 0;
  ByteDfa dfa_;
  std::map<Subset, std::uint16_t> states_;
  std::vector<Subset> subsets_;
};

}  // namespace

Result<ByteDfa> pattern_dfa(std::string_view pattern) {
  HP_TRY(const RegexNfa regex, parse_pattern(pattern));
  const ByteNfa nfa = to_bytes(regex);
  return SubsetBuilder(nfa).build();
}

}  // namespace hp
