// Recognizes the pre_tokenizer of a tokenizer.json as one of the split patterns that we have matchers for.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "text/tokenizer_source.h"

namespace hp {

/// An error lists the steps as found.
Result<PreTokenizer> recognize_pre_tokenizer(const JsonValue& pre_tokenizer);

}  // namespace hp
