// Builds a prompt out of the template's own text and the client's. Only the template's own text can hold special
// tokens.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat.h"

namespace hp {

class PromptPieces {
 public:
  /// Exactly one special token.
  PromptPieces& special(std::string_view spelling);
  /// Anybody's text: never special.
  PromptPieces& text(std::string_view text);
  /// The template's own words: spellings of the families' markers in them are special tokens.
  PromptPieces& markup(std::string_view text);
  std::vector<PromptPiece> take() { return std::move(pieces_); }

 private:
  std::vector<PromptPiece> pieces_;
};

/// Without white space at both ends, as Jinja's trim.
std::string_view trimmed(std::string_view text);

/// JSON text as Python's json.dumps(…, ensure_ascii=False) would write it again, which is what templates print for
/// tools: a space after ':' and ','. Text that is no JSON comes back as a JSON string.
std::string python_json(std::string_view json);

}  // namespace hp
