// Byte-level BPE: words of raw bytes to tokens, by merges in rank order. Knows nothing of splitting or special tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer_source.h"

namespace hp {

/// The bytes that a token in GPT-2's printable alphabet stands for; false when it holds a character outside of it.
bool printable_to_bytes(std::string_view printable, std::string& bytes);

class ByteBpe {
 public:
  /// `bytes` are the tokens' bytes by id; only tokens of type normal take part.
  static Result<ByteBpe> build(const TokenizerSource& source, const std::vector<std::string>& bytes);

  /// Appends the tokens of one word: O(n log n). A byte that no token spells is left out, as the reference does.
  void encode_word(std::string_view word, std::vector<TokenId>& out) const;

 private:
  struct Merge {
    std::uint32_t rank;
    TokenId result;
  };
  static std::uint64_t pair_key(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32U) | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] const Merge* find(TokenId left, TokenId right) const;

  std::unordered_map<std::uint64_t, Merge> merges_;
  std::unordered_map<std::string, TokenId> words_;  ///< only with ignore_merges
  std::array<TokenId, 256> byte_tokens_{};          ///< -1: no token spells this byte
};

}  // namespace hp
