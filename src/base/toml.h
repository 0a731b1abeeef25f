// TOML data files (catalogs, playbooks, price lists) as the same tree that JSON gives. The configuration of the program
// is not read here: config.h knows its keys.
#pragma once

#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace hp {

/// Tables become objects with their keys in alphabetical order, dates and times become text. The error names the line.
Result<JsonValue> parse_toml(std::string_view text, std::string_view source_name);

}  // namespace hp
