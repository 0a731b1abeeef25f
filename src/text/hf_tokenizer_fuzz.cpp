// Any bytes as a tokenizer.json: an error or a tokenizer that encodes and decodes without a fault.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/hf_tokenizer.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto source = hp::tokenizer_source_from_json({.tokenizer = text});
  if (!source) return 0;
  const auto tokenizer = hp::Tokenizer::build(std::move(*source));
  if (!tokenizer) return 0;
  std::vector<hp::TokenId> ids;
  tokenizer->encode_with_special(text.substr(0, 4096), ids);
  tokenizer->encode_text("Hello  world\n12345 \xE4\xB8\xAD\xFF", ids);
  static_cast<void>(tokenizer->decode(ids));
  return 0;
}
