// A vocabulary's tokens by the classes of their bytes that one automaton cannot tell apart: far fewer paths than the
// tokens' tree has, so that what a state allows is found in microseconds. Made once per automaton, without the tokens
// in which two bytes stand side by side that never do in its strings.
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

  /// Of one of the automaton's states; not counted.
  [[nodiscard]] StringProfile profile(const ByteDfa& dfa, std::uint16_t state) const;

 private:
  struct Node {
    std::uint32_t first_token = 0, tokens = 0;  ///< in tokens_
    std::uint32_t first_quote = 0, quotes = 0;  ///< closing quotes behind this node, in quotes_
    std::int32_t mask = -1;                     ///< of its tokens, where they are many
  };
  void find_classes(const ByteDfa& dfa);
  void find_neighbours(const ByteDfa& dfa);
  std::uint32_t child(std::uint32_t node, std::uint8_t byte);
  [[nodiscard]] TokenMask mask_of(const std::vector<std::uint32_t>& nodes) const;
  void sort_into_nodes(const std::vector<std::pair<std::uint32_t, TokenId>>& tokens,
                       const std::vector<std::pair<std::uint32_t, std::uint32_t>>& quotes);

  std::array<std::uint8_t, 256> class_of_{};
  std::vector<std::uint8_t> byte_of_;    ///< one byte of each class
  std::vector<char> follows_;            ///< [classes + 1, classes]: the second may stand behind the first, the last is
                                         ///< the beginning of a token
  std::vector<char> may_close_;          ///< [classes + 1]: a closing quote may
  std::vector<Node> nodes_;              ///< [0] is the root
  std::vector<std::uint32_t> children_;  ///< [nodes, classes], 0: none
  std::vector<TokenId> tokens_;
  std::vector<std::uint32_t> quotes_;  ///< nodes of the tokens' tree
  std::vector<TokenMask> masks_;
  std::size_t mask_words_;
};

}  // namespace hp
