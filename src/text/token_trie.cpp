#include "text/token_trie.h"

#include <algorithm>
#include <utility>

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
      ends_(std::move(ends)) {
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
  std::vector<std::uint32_t> open;  // entries from the root to the last one
  std::string_view last;
  for (const TokenId t : order) {
    const std::string_view text = tokenizer.token_bytes(t);
    const std::size_t quote = text.rfind('"');
    if (quote != std::string_view::npos) quote_reach_ = std::max(quote_reach_, static_cast<std::int32_t>(quote));
    std::size_t shared = 0;
    while (shared < std::min(text.size(), last.size()) && text[shared] == last[shared]) ++shared;
    for (; open.size() > shared; open.pop_back())
      entries_[open.back()].end = static_cast<std::uint32_t>(entries_.size());
    for (std::size_t i = shared; i < text.size(); ++i) {
      open.push_back(static_cast<std::uint32_t>(entries_.size()));
      entries_.push_back({.depth = static_cast<std::uint16_t>(i + 1), .byte = static_cast<std::uint8_t>(text[i])});
    }
    TrieEntry& entry = entries_[open.back()];
    same_[static_cast<std::size_t>(t)] = entry.token;
    entry.token = t;
    last = text;
  }
  for (const std::uint32_t at : open) entries_[at].end = static_cast<std::uint32_t>(entries_.size());
}

std::shared_ptr<const StringProfile> TokenTrie::any_string(std::uint16_t state) const {
  const std::lock_guard lock(mutex_);
  auto& known = any_string_[state];
  if (!known) known = std::make_shared<const StringProfile>(profile(any_string_dfa(), state, true));
  return known;
}

StringProfile TokenTrie::profile(const ByteDfa& dfa, std::uint16_t state, bool counted) const {
  struct Level {
    std::uint16_t state;
    std::int32_t characters;
  };
  StringProfile out;
  const std::size_t masks = counted ? static_cast<std::size_t>(StringProfile::kNeedMax) + 2 : 1;
  out.inside.assign(masks, TokenMask(mask_words(), 0));
  std::vector<Level> levels(1, {state, 0});
  for (std::uint32_t i = 0; i < entries_.size();) {
    const TrieEntry& entry = entries_[i];
    const Level above = levels[entry.depth - 1U];
    if (entry.byte == '"' && dfa.accepts[above.state]) {
      out.exits.push_back({.entry = i, .characters = above.characters});
      i = entry.end;
      continue;
    }
    const std::uint16_t to = dfa.next[above.state][entry.byte];
    if (to == ByteDfa::kDead) {
      i = entry.end;
      continue;
    }
    if (levels.size() <= entry.depth) levels.resize(entry.depth + 1U);
    levels[entry.depth] = {to, above.characters + (dfa.between[to] ? 1 : 0)};
    for (TokenId t = entry.token; t >= 0; t = same(t)) {
      const std::int32_t need = levels[entry.depth].characters + (dfa.between[to] ? 0 : 1);
      const bool listed = counted && need <= StringProfile::kNeedMax;
      set_bit(listed ? out.inside[static_cast<std::size_t>(need)] : out.inside.back(), t);
    }
    ++i;
  }
  for (std::size_t n = 1; n < out.inside.size(); ++n) {
    for (std::size_t w = 0; w < mask_words(); ++w) out.inside[n][w] |= out.inside[n - 1][w];
  }
  return out;
}

}  // namespace hp
