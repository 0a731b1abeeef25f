// The regular expressions of JSON schema's "pattern" as automata over JSON string bytes. The subset: literals, .,
// classes, \d \w \s and their opposites, groups, |, * + ? {m,n}, ^ and $ at the ends. Where engines differ the narrower
// meaning is taken (\d is 0-9; opposites stay in ASCII), so that what is generated matches everywhere.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/byte_dfa.h"

namespace hp {

/// All strings in which the pattern is found (it is not anchored by itself).
Result<ByteDfa> pattern_dfa(std::string_view pattern);

}  // namespace hp
