#include "text/class_trie.h"

#include <map>
#include <string>
#include <utility>

namespace hp {
namespace {

constexpr std::uint32_t kMany = 256;  // tokens of a node that are worth a mask

void set_bit(TokenMask& mask, TokenId token) {
  mask[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(token) % 64);
}

}  // namespace

ClassTrie::ClassTrie(const TokenTrie& trie, const ByteDfa& dfa) : nodes_(1), mask_words_(trie.mask_words()) {
  find_classes(dfa);
  children_.resize(byte_of_.size());
  const auto& entries = trie.entries();
  std::vector<std::pair<std::uint32_t, TokenId>> tokens;        // (node, token)
  std::vector<std::pair<std::uint32_t, std::uint32_t>> quotes;  // (node before the quote, entry)
  std::vector<std::uint32_t> path(1, 0);
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    const TrieEntry& entry = entries[i];
    if (path.size() <= entry.depth) path.resize(entry.depth + 1U);
    const std::uint32_t above = path[entry.depth - 1U];
    if (entry.byte == '"') quotes.emplace_back(above, i);
    const std::uint32_t node = child(above, entry.byte);
    path[entry.depth] = node;
    for (TokenId t = entry.token; t >= 0; t = trie.same(t)) tokens.emplace_back(node, t);
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
  for (const auto& [node, entry] : quotes) ++nodes_[node].quotes;
  std::uint32_t token_at = 0, quote_at = 0;
  for (Node& n : nodes_) {
    n.first_token = std::exchange(token_at, token_at + n.tokens);
    n.first_quote = std::exchange(quote_at, quote_at + n.quotes);
    n.tokens = n.quotes = 0;
  }
  tokens_.resize(tokens.size());
  quotes_.resize(quotes.size());
  for (const auto& [node, token] : tokens) tokens_[nodes_[node].first_token + nodes_[node].tokens++] = token;
  for (const auto& [node, entry] : quotes) quotes_[nodes_[node].first_quote + nodes_[node].quotes++] = entry;
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
  TokenMask& mask = out.inside.emplace_back(mask_words_, 0);
  std::vector<Open> open(1, {.node = 0, .state = state, .characters = 0});
  while (!open.empty()) {
    const Open here = open.back();
    open.pop_back();
    const Node& n = nodes_[here.node];
    if (n.mask >= 0) {
      const TokenMask& many = masks_[static_cast<std::size_t>(n.mask)];
      for (std::size_t w = 0; w < mask_words_; ++w) mask[w] |= many[w];
    } else {
      for (std::uint32_t i = 0; i < n.tokens; ++i) set_bit(mask, tokens_[n.first_token + i]);
    }
    const bool may_close = dfa.accepts[here.state];
    for (std::uint32_t i = 0; may_close && i < n.quotes; ++i)
      out.exits.push_back({.entry = quotes_[n.first_quote + i], .characters = here.characters});
    for (std::size_t c = 0; c < byte_of_.size(); ++c) {
      const std::uint32_t to = children_[here.node * byte_of_.size() + c];
      const std::uint16_t next = dfa.next[here.state][byte_of_[c]];
      if (to == 0 || next == ByteDfa::kDead || (may_close && byte_of_[c] == '"')) continue;
      open.push_back({.node = to, .state = next, .characters = here.characters + (dfa.between[next] ? 1 : 0)});
    }
  }
  return out;
}

}  // namespace hp
