// A Hugging Face tokenizer.json (with what its neighbours tokenizer_config.json, generation_config.json and
// chat_template.jinja add) as the plain TokenizerSource. Every part that would change tokens and is not known here is
// refused by name, never skipped.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/tokenizer_source.h"

namespace hp {

/// The texts of the files; all but the first may be empty.
struct HfTokenizerFiles {
  std::string_view tokenizer;          ///< tokenizer.json
  std::string_view tokenizer_config;   ///< tokenizer_config.json
  std::string_view generation_config;  ///< generation_config.json
  std::string_view chat_template;      ///< chat_template.jinja; wins over the template in tokenizer_config.json
};

/// An error's `where` is the member at fault, as "tokenizer.json: pre_tokenizer".
Result<TokenizerSource> tokenizer_source_from_json(const HfTokenizerFiles& files);

/// Fills end_of_generation: what is there, eos, and every special token that chat families end an answer with, whatever
/// eos says: files of chat models often name only one.
void collect_end_tokens(TokenizerSource& source);

}  // namespace hp
