// Streams tokens back to text, never half a character: bytes that may still become one UTF-8 character are held back;
// bytes that cannot become U+FFFD. Feeding the same tokens in any grouping gives the same text.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "text/tokenizer.h"

namespace hp {

class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  /// Control tokens among `visible` come out as they are spelled (ReplyParser::markers()); others stay silent.
  Detokenizer(const Tokenizer& tokenizer, std::span<const std::string_view> visible);

  /// Appends the text that became certain with `id` to `out`; always valid UTF-8.
  void push(TokenId id, std::string& out);
  /// The end of the stream: what is still held back comes out, as U+FFFD where it is incomplete.
  void finish(std::string& out);
  [[nodiscard]] std::size_t held_bytes() const { return held_.size(); }

 private:
  const Tokenizer* tokenizer_;
  std::vector<TokenId> visible_;
  std::string held_;  ///< at most 3 bytes: the beginning of a character
};

}  // namespace hp
