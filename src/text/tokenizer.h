// Text to tokens and back. Immutable after build(): any number of threads may use one at once.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer_source.h"

namespace hp {

class Tokenizer {
 public:
  static Result<Tokenizer> build(TokenizerSource source);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Plain text: no special token ever comes out, whatever the text spells. Invalid UTF-8 is encoded byte by byte.
  /// Appends.
  void encode_text(std::string_view text, std::vector<TokenId>& out) const;
  /// Text in which special tokens written out are recognized: for raw completion prompts and for templates.
  void encode_with_special(std::string_view text, std::vector<TokenId>& out) const;

  /// The bytes a token stands for; empty for control tokens. Not necessarily whole UTF-8 characters.
  [[nodiscard]] std::string_view token_bytes(TokenId id) const;
  /// The token as its file spells it: "<|im_end|>", "Ġthe".
  [[nodiscard]] std::string_view token_text(TokenId id) const;
  [[nodiscard]] bool is_special(TokenId id) const;  ///< control or user-defined
  /// A special token by its spelling.
  [[nodiscard]] std::optional<TokenId> special(std::string_view spelling) const;
  [[nodiscard]] std::string decode(std::span<const TokenId> ids) const;  ///< bytes as they are; may be invalid UTF-8

  [[nodiscard]] std::int32_t vocab_size() const;
  [[nodiscard]] const TokenizerSource& source() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

}  // namespace hp
