// A vocabulary's tokens by the classes of their bytes that one automaton cannot tell apart: far fewer paths than the
// tokens' tree has, so that what a state allows is found in microseconds. Made once per automaton.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "text/byte_dfa.h"
#include "text/token_trie.h"

namespace hp {

class ClassTrie {
 public:
  ClassTrie(const TokenTrie& trie, const ByteDfa& dfa);

  /// As TokenTrie::profile of the same automaton, not counted.
  [[nodiscard]] StringProfile profile(const ByteDfa& dfa, std::uint16_t state) const;

 private:
  struct Node {
    std::uint32_t first_token = 0, tokens = 0;  ///< in tokens_
    std::uint32_t first_quote = 0, quotes = 0;  ///< closing quotes behind this node, in quotes_
    std::int32_t mask = -1;                     ///< of its tokens, where they are many
  };
  void find_classes(const ByteDfa& dfa);
  std::uint32_t child(std::uint32_t node, std::uint8_t byte);
  void sort_into_nodes(const std::vector<std::pair<std::uint32_t, TokenId>>& tokens,
                       const std::vector<std::pair<std::uint32_t, std::uint32_t>>& quotes);

  std::array<std::uint8_t, 256> class_of_{};
  std::vector<std::uint8_t> byte_of_;    ///< one byte of each class
  std::vector<Node> nodes_;              ///< [0] is the root
  std::vector<std::uint32_t> children_;  ///< [nodes, classes], 0: none
  std::vector<TokenId> tokens_;
  std::vector<std::uint32_t> quotes_;  ///< entries of the trie
  std::vector<TokenMask> masks_;
  std::size_t mask_words_;
};

}  // namespace hp
