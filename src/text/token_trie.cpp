#include "text/token_trie.h"

#include <algorithm>
#include <utility>

#include "text/pattern_cache.h"

namespace hp {
namespace {

void set_bit(TokenMask& mask, TokenId token) {
  mask[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(token) % 64);
}

}  // namespace

TokenTrie::TokenTrie(std::shared_ptr<const Tokenizer> vocabulary, std::vector<TokenId> ends)
    : tokenizer_(std::move(vocabulary)),
      same_(static_cast<std::size_t>(tokenizer_->vocab_size()), -1),
      plain_(same_.size(), false),
      ends_(std::move(ends)),
      patterns_(std::make_shared<PatternCache>()) {
  const Tokenizer& tokenizer = *tokenizer_;
  std::erase_if(ends_, [&](TokenId t) { return t < 0 || t >= tokenizer.vocab_size(); });
  std::vector<TokenId> order;
  for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
    const TokenType type = tokenizer.source().types[static_cast<std::size_t>(t)];
    const bool usable = type == TokenType::normal || type == TokenType::byte;
    if (!usable || tokenizer.token_bytes(t).empty() || tokenizer.token_bytes(t).size() > 0xFFFF) continue;
    plain_[static_cast<std::size_t>(t)] = true;
    order.push_back(t);
  }
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    const int compared = tokenizer.token_bytes(a).compare(tokenizer.token_bytes(b));
    return compared != 0 ? compared < 0 : a < b;
  });
  for (const TokenId t : order) {
    const std::size_t quote = tokenizer.token_bytes(t).rfind('"');
    if (quote != std::string_view::npos) quote_reach_ = std::max(quote_reach_, static_cast<std::int32_t>(quote));
  }
  add_nodes(order);
  const ByteDfa& strings = any_string_dfa();
  for (std::size_t state = 0; state < strings.size(); ++state)
    any_string_.push_back(std::make_shared<const StringProfile>(profile(strings, static_cast<std::uint16_t>(state))));
}

void TokenTrie::add_nodes(std::span<const TokenId> sorted) {
  struct Open {
    std::uint32_t node;
    std::size_t begin, end, depth;  // its tokens, in `sorted`, and how many bytes they share
  };
  nodes_.resize(1);
  last_bytes_.resize(1);
  std::vector<Open> open(1, {.node = 0, .begin = 0, .end = sorted.size(), .depth = 0});
  while (!open.empty()) {
    auto [node, begin, end, depth] = open.back();
    open.pop_back();
    for (; begin < end && bytes(sorted[begin]).size() == depth; ++begin)
      same_[static_cast<std::size_t>(sorted[begin])] = std::exchange(nodes_[node].token, sorted[begin]);
    nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size());
    while (begin < end) {
      const char byte = bytes(sorted[begin])[depth];
      std::size_t behind = begin + 1;
      while (behind < end && bytes(sorted[behind])[depth] == byte) ++behind;
      ++nodes_[node].children;
      open.push_back({static_cast<std::uint32_t>(nodes_.size()), std::exchange(begin, behind), behind, depth + 1});
      nodes_.emplace_back();
      last_bytes_.push_back(static_cast<std::uint8_t>(byte));
    }
  }
}

std::shared_ptr<const PatternProfiles> TokenTrie::pattern(const std::shared_ptr<const ByteDfa>& dfa) const {
  return patterns_->find(*this, dfa);
}

StringProfile TokenTrie::profile(const ByteDfa& dfa, std::uint16_t state) const {
  struct Open {
    std::uint32_t node;
    std::uint16_t state;
    std::int32_t characters;
  };
  StringProfile out;
  out.inside.assign(static_cast<std::size_t>(StringProfile::kNeedMax) + 2, TokenMask(mask_words(), 0));
  std::vector<Open> open(1, {.node = 0, .state = state, .characters = 0});
  while (!open.empty()) {
    const Open here = open.back();
    open.pop_back();
    const std::uint32_t first = nodes_[here.node].first_child, end = first + nodes_[here.node].children;
    for (std::uint32_t n = first; n < end; ++n) {
      if (last_bytes_[n] == '"' && dfa.accepts[here.state]) {
        out.exits.push_back({.node = n, .characters = here.characters});
        continue;
      }
      const std::uint16_t to = dfa.next[here.state][last_bytes_[n]];
      if (to == ByteDfa::kDead) continue;
      const std::int32_t characters = here.characters + (dfa.between[to] ? 1 : 0);
      const std::int32_t need = characters + (dfa.between[to] ? 0 : 1);
      for (TokenId t = nodes_[n].token; t >= 0; t = same(t))
        set_bit(need <= StringProfile::kNeedMax ? out.inside[static_cast<std::size_t>(need)] : out.inside.back(), t);
      open.push_back({.node = n, .state = to, .characters = characters});
    }
  }
  for (std::size_t n = 1; n < out.inside.size(); ++n) {
    for (std::size_t w = 0; w < mask_words(); ++w) out.inside[n][w] |= out.inside[n - 1][w];
  }
  return out;
}

}  // namespace hp
