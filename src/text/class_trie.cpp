#include "text/class_trie.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace hp {
namespace {

constexpr std::uint32_t kMany = 1024;  // tokens that are worth a mask

void set_bit(TokenMask& mask, TokenId token) {
  mask[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(token) % 64);
}

}  // namespace

ClassTrie::ClassTrie(const TokenTrie& trie, const ByteDfa& dfa) : nodes_(1), mask_words_(trie.mask_words()) {
  find_classes(dfa);
  find_neighbours(dfa);
  const std::size_t classes = byte_of_.size();
  children_.resize(classes);
  std::vector<std::pair<std::uint32_t, TokenId>> tokens;        // (node, token)
  std::vector<std::pair<std::uint32_t, std::uint32_t>> quotes;  // (node before the quote, the quote's in `trie`)
  struct Open {
    std::uint32_t from, node;  // in `trie`, here
    std::size_t byte_class;
  };
  std::vector<Open> open(1, {.from = 0, .node = 0, .byte_class = classes});
  while (!open.empty()) {
    const Open here = open.back();
    open.pop_back();
    const TrieNode& above = trie.node(here.from);
    for (std::uint32_t n = above.first_child; n < above.first_child + above.children; ++n) {
      const std::uint8_t byte = trie.last_byte(n);
      if (byte == '"' && may_close_[here.byte_class] != 0) quotes.emplace_back(here.node, n);
      const std::size_t byte_class = class_of_[byte];
      if (follows_[here.byte_class * classes + byte_class] == 0) continue;
      const std::uint32_t node = child(here.node, byte);
      for (TokenId t = trie.node(n).token; t >= 0; t = trie.same(t)) tokens.emplace_back(node, t);
      open.push_back({.from = n, .node = node, .byte_class = byte_class});
    }
  }
  sort_into_nodes(tokens, quotes);
}

void ClassTrie::find_classes(const ByteDfa& dfa) {
  std::map<std::vector<std::uint16_t>, std::uint8_t> known;
  std::vector<std::uint16_t> column(dfa.size() + 1);
  for (std::size_t b = 0; b < 256; ++b) {
    for (std::size_t s = 0; s < dfa.size(); ++s) column[s] = dfa.next[s][b];
    column[dfa.size()] = b == '"' ? 1 : 0;  // it may end a string as well
    const auto [at, fresh] = known.try_emplace(column, static_cast<std::uint8_t>(byte_of_.size()));
    if (fresh) byte_of_.push_back(static_cast<std::uint8_t>(b));
    class_of_[b] = at->second;
  }
}

void ClassTrie::find_neighbours(const ByteDfa& dfa) {
  const std::size_t classes = byte_of_.size();
  follows_.assign((classes + 1) * classes, 0);
  may_close_.assign(classes + 1, 0);
  const auto mark = [&](std::size_t before, std::uint16_t state) {
    if (dfa.accepts[state]) may_close_[before] = 1;
    for (std::size_t c = 0; c < classes; ++c) {
      if (dfa.next[state][byte_of_[c]] != ByteDfa::kDead) follows_[before * classes + c] = 1;
    }
  };
  std::vector<char> reached(dfa.size());
  for (std::size_t c = 0; c < classes; ++c) {
    std::fill(reached.begin(), reached.end(), 0);
    for (const auto& next : dfa.next) {
      const std::uint16_t to = next[byte_of_[c]];
      if (to != ByteDfa::kDead && std::exchange(reached[to], 1) == 0) mark(c, to);
    }
  }
  for (std::size_t s = 0; s < dfa.size(); ++s) mark(classes, static_cast<std::uint16_t>(s));
}

std::uint32_t ClassTrie::child(std::uint32_t node, std::uint8_t byte) {
  const std::size_t at = node * byte_of_.size() + class_of_[byte];
  if (children_[at] == 0) {
    children_[at] = static_cast<std::uint32_t>(nodes_.size());
    nodes_.emplace_back();
    children_.resize(nodes_.size() * byte_of_.size());
  }
  return children_[at];
}

void ClassTrie::sort_into_nodes(const std::vector<std::pair<std::uint32_t, TokenId>>& tokens,
                                const std::vector<std::pair<std::uint32_t, std::uint32_t>>& quotes) {
  for (const auto& [node, token] : tokens) ++nodes_[node].tokens;
  for (const auto& [node, quote] : quotes) ++nodes_[node].quotes;
  std::uint32_t token_at = 0, quote_at = 0;
  for (Node& n : nodes_) {
    n.first_token = std::exchange(token_at, token_at + n.tokens);
    n.first_quote = std::exchange(quote_at, quote_at + n.quotes);
    n.tokens = n.quotes = 0;
  }
  tokens_.resize(tokens.size());
  quotes_.resize(quotes.size());
  for (const auto& [node, token] : tokens) tokens_[nodes_[node].first_token + nodes_[node].tokens++] = token;
  for (const auto& [node, quote] : quotes) quotes_[nodes_[node].first_quote + nodes_[node].quotes++] = quote;
  for (Node& n : nodes_) {
    if (n.tokens < kMany) continue;
    n.mask = static_cast<std::int32_t>(masks_.size());
    TokenMask& mask = masks_.emplace_back(mask_words_, 0);
    for (std::uint32_t i = 0; i < n.tokens; ++i) set_bit(mask, tokens_[n.first_token + i]);
  }
}

StringProfile ClassTrie::profile(const ByteDfa& dfa, std::uint16_t state) const {
  struct Open {
    std::uint32_t node;
    std::uint16_t state;
    std::int32_t characters;
  };
  StringProfile out;
  std::vector<std::uint32_t> inside;  // nodes
  std::size_t count = 0;
  std::vector<Open> open(1, {.node = 0, .state = state, .characters = 0});
  while (!open.empty()) {
    const Open here = open.back();
    open.pop_back();
    const Node& n = nodes_[here.node];
    if (n.tokens > 0) inside.push_back(here.node);
    count += n.tokens;
    const bool may_close = dfa.accepts[here.state];
    for (std::uint32_t i = 0; may_close && i < n.quotes; ++i)
      out.exits.push_back({.node = quotes_[n.first_quote + i], .characters = here.characters});
    for (std::size_t c = 0; c < byte_of_.size(); ++c) {
      const std::uint32_t to = children_[here.node * byte_of_.size() + c];
      if (to == 0) continue;
      const std::uint16_t next = dfa.next[here.state][byte_of_[c]];
      if (next == ByteDfa::kDead || (may_close && byte_of_[c] == '"')) continue;
      open.push_back({.node = to, .state = next, .characters = here.characters + (dfa.between[next] ? 1 : 0)});
    }
  }
  if (count >= kMany) {
    out.inside.push_back(mask_of(inside));
  } else {
    for (const std::uint32_t n : inside) {
      const auto first = tokens_.begin() + nodes_[n].first_token;
      out.few.insert(out.few.end(), first, first + nodes_[n].tokens);
    }
  }
  return out;
}

TokenMask ClassTrie::mask_of(const std::vector<std::uint32_t>& nodes) const {
  TokenMask mask(mask_words_, 0);
  for (const std::uint32_t at : nodes) {
    const Node& n = nodes_[at];
    if (n.mask >= 0) {
      const TokenMask& many = masks_[static_cast<std::size_t>(n.mask)];
      for (std::size_t w = 0; w < mask_words_; ++w) mask[w] |= many[w];
    } else {
      for (std::uint32_t i = 0; i < n.tokens; ++i) set_bit(mask, tokens_[n.first_token + i]);
    }
  }
  return mask;
}

}  // namespace hp
