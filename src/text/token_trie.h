// A vocabulary as a tree of its tokens' bytes, so that a grammar can rule on all tokens in one walk; and, per state of
// a string automaton, what the walk finds, because strings are where nearly all tokens are allowed and walks are long:
// of any string made with the tree, of patterns when they are met.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/ids.h"
#include "text/byte_dfa.h"
#include "text/tokenizer.h"

namespace hp {

using TokenMask = std::vector<std::uint64_t>;  ///< bit t of word t / 64

/// The beginning of one or more tokens; what goes on from it stands side by side.
struct TrieNode {
  std::uint32_t first_child = 0;
  TokenId token = -1;  ///< a token that ends here; others with the same bytes follow by TokenTrie::same
  std::uint16_t children = 0;
};

/// What tokens do to a string automaton that stands in a given state.
struct StringProfile {
  static constexpr std::int32_t kNeedMax = 32;
  struct Exit {
    std::uint32_t node;       ///< the closing quote
    std::int32_t characters;  ///< complete before it
  };
  /// [n]: tokens that stay inside and need at most n more characters; the last: any number.
  std::vector<TokenMask> inside;
  std::vector<TokenId> few;  ///< tokens that stay inside, instead of a mask where they are few
  std::vector<Exit> exits;
};

class PatternCache;
class PatternProfiles;

/// Immutable but for its cache, which locks itself: one per model, shared by all answers.
class TokenTrie {
 public:
  /// `ends` are the tokens that end an answer; those outside of the vocabulary are left out.
  TokenTrie(std::shared_ptr<const Tokenizer> tokenizer, std::vector<TokenId> ends);

  [[nodiscard]] const TrieNode& node(std::uint32_t n) const { return nodes_[n]; }  ///< 0 is the root
  [[nodiscard]] std::uint8_t last_byte(std::uint32_t n) const { return last_bytes_[n]; }
  [[nodiscard]] TokenId same(TokenId token) const { return same_[static_cast<std::size_t>(token)]; }
  [[nodiscard]] std::size_t mask_words() const { return (same_.size() + 63) / 64; }
  [[nodiscard]] std::span<const TokenId> ends() const { return ends_; }  ///< end-of-generation tokens
  [[nodiscard]] std::string_view bytes(TokenId token) const { return tokenizer_->token_bytes(token); }
  [[nodiscard]] std::int32_t vocab_size() const { return static_cast<std::int32_t>(same_.size()); }
  /// Most characters before a '"' in any token: as far as a token can see to the end of a string.
  [[nodiscard]] std::int32_t quote_reach() const { return quote_reach_; }
  [[nodiscard]] bool plain(TokenId token) const { return plain_[static_cast<std::size_t>(token)]; }

  /// Of the any-string automaton.
  [[nodiscard]] const std::shared_ptr<const StringProfile>& any_string(std::uint16_t state) const {
    return any_string_[state];
  }
  /// Of another automaton: kept for the answers that have the same.
  [[nodiscard]] std::shared_ptr<const PatternProfiles> pattern(const std::shared_ptr<const ByteDfa>& dfa) const;

 private:
  void add_nodes(std::span<const TokenId> sorted);
  [[nodiscard]] StringProfile profile(const ByteDfa& dfa, std::uint16_t state) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<TrieNode> nodes_;
  std::vector<std::uint8_t> last_bytes_;  ///< by node, apart from it: walks look at many bytes that they do not take
  std::vector<TokenId> same_;
  std::vector<bool> plain_;  ///< in the tree: not special, not empty
  std::vector<TokenId> ends_;
  std::int32_t quote_reach_ = 0;
  std::vector<std::shared_ptr<const StringProfile>> any_string_;
  std::shared_ptr<PatternCache> patterns_;
};

}  // namespace hp
