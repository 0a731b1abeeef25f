// Any bytes as a JSON schema: an error, or a grammar in which a byte can always follow until the text is whole.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/check.h"
#include "text/grammar_matcher.h"
#include "text/json_schema.h"

namespace {

std::shared_ptr<const hp::TokenTrie> bytes_as_tokens() {
  hp::TokenizerSource source;
  source.kind = hp::TokenizerKind::sentencepiece_bpe;
  for (int b = 0; b < 256; ++b) source.tokens.push_back(fmt::format("<0x{:02X}>", b));
  source.types.assign(256, hp::TokenType::byte);
  source.scores.assign(256, 0);
  auto tokenizer = std::make_shared<const hp::Tokenizer>(hp::Tokenizer::build(std::move(source)).value());
  return std::make_shared<const hp::TokenTrie>(tokenizer, std::vector<hp::TokenId>());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto kTrie = bytes_as_tokens();
  const auto grammar = hp::json_schema_grammar({reinterpret_cast<const char*>(data), size});
  if (!grammar) return 0;
  hp::GrammarMatcher matcher(*grammar, kTrie);
  for (std::size_t i = 0; i < 64; ++i) {
    hp::TokenMask mask(kTrie->mask_words(), ~std::uint64_t{0});
    matcher.allowed(mask);
    hp::TokenId first = -1;
    for (int t = 255; t >= 0; --t) {
      const bool set = (mask[static_cast<std::size_t>(t) / 64] >> (static_cast<std::size_t>(t) % 64) & 1U) != 0;
      if (set && (first < 0 || (i + data[0] + static_cast<unsigned>(t)) % 3 == 0)) first = t;
    }
    HP_CHECK(first >= 0 || matcher.finished(), "nothing may follow after {} bytes", i);
    if (first < 0) break;
    matcher.accept(first);
  }
  return 0;
}
