// The member "messages" of a chat request.
#pragma once

#include <vector>

#include "api/chat_request.h"
#include "base/json.h"

namespace hp::api {

/// Checks roles, contents, tool calls and the place of "prefix".
Result<std::vector<Message>> read_messages(const JsonValue& body);

}  // namespace hp::api
