// SentencePiece-style BPE (Llama 1 and 2, older Mistral): characters merged by score or by rank, spaces written as
// U+2581, characters outside of the vocabulary as byte tokens.
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

/// The bytes that a token of such a vocabulary stands for: U+2581 becomes a space, <0x41> of type byte one byte.
std::string sentencepiece_bytes(std::string_view token, TokenType type);

class SentencePieceBpe {
 public:
  static Result<SentencePieceBpe> build(const TokenizerSource& source);
  /// Appends the tokens of a text without special tokens.
  void encode(std::string_view text, std::vector<TokenId>& out) const;

 private:
  struct Symbol;
  struct Merge {
    float priority;  ///< lower goes first: the negated score, or the rank
    TokenId result;
  };
  void encode_run(std::string_view run, std::vector<TokenId>& out) const;
  void append_fallback(std::string_view text, std::vector<TokenId>& out) const;
  [[nodiscard]] const Merge* find(std::string_view joined, std::size_t left_bytes) const;

  std::unordered_map<std::string, TokenId> ids_;   ///< normal and user-defined tokens
  std::unordered_map<std::string, Merge> scored_;  ///< joined text, without merge ranks
  std::unordered_map<std::string, Merge> ranked_;  ///< "left right" as the file writes it, with merge ranks
  std::array<TokenId, 256> byte_tokens_{};         ///< -1: no such token
  TokenId unknown_ = -1;
  bool space_prefix_ = false;
  bool by_rank_ = false;
  bool cut_at_spaces_ = false;  ///< no token has a space after another character: words can be merged one by one
};

}  // namespace hp
