// The top-level members of a JSON object, without building a tree: for a proxy that reads three fields of a large body.
// Values are checked only as far as finding their end needs; whoever uses a body whole parses it whole.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hp {

/// `raw` is the value's JSON text, a view into the body. On a repeated key the visitor is called again.
using JsonMemberVisitor = std::function<void(std::string_view key, std::string_view raw)>;

/// The body must be exactly one JSON object in UTF-8. Its capacity may grow (the parser reads past the end), its text
/// stays. Keys are unescaped; a key's view lasts for the call.
Status visit_members(std::string& body, const JsonMemberVisitor& visit);

/// The text of a raw JSON string, or empty when `raw` is none.
std::string json_string_value(std::string_view raw);

}  // namespace hp
