// Cuts text into the words that BPE works on, by hand-written matchers of each family's split pattern (no regex).
#pragma once

#include <string_view>
#include <vector>

#include "text/tokenizer_source.h"

namespace hp {

/// The words of `text`, in order, without gaps. Linear in the length of the text.
std::vector<std::string_view> pre_tokenize(PreTokenizer pre, std::string_view text);

}  // namespace hp
