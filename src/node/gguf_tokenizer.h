// What GGUF metadata says of the tokenizer, as the text room's plain struct. Checks presence and lengths here; whether
// the vocabulary makes a working tokenizer is the text room's to say.
#pragma once

#include "base/result.h"
#include "model/gguf_file.h"
#include "text/tokenizer_source.h"

namespace hp {

/// An error's `where` is the metadata key at fault.
Result<TokenizerSource> tokenizer_source_from_gguf(const GgufFile& file);

}  // namespace hp
