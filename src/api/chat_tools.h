// The members of a chat request that shape its answer: tools, tool_choice, response_format, thinking.
#pragma once

#include "api/chat_request.h"
#include "base/json.h"

namespace hp::api {

Status read_tools(const JsonValue& body, ChatRequest& request);
Status read_response_format(const JsonValue& body, ChatRequest& request);
/// thinking, reasoning_effort and chat_template_kwargs.{thinking, enable_thinking}.
Status read_thinking(const JsonValue& body, ChatRequest& request);

}  // namespace hp::api
