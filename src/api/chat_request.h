// The body of POST /v1/chat/completions, read and checked. What cannot be honoured is refused, not ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/generation_params.h"
#include "base/result.h"

namespace hp::api {

enum class Role : std::uint8_t { system, developer, user, assistant, tool };

struct ToolCall {
  std::string id, name;
  std::string arguments;  ///< text as the client wrote it, by convention a JSON object
};

struct Message {
  Role role = Role::user;
  std::string content;  ///< text parts joined in their order
  std::string name;
  std::string reasoning;             ///< reasoning_content of an assistant's message
  std::string tool_call_id;          ///< of role tool
  std::vector<ToolCall> tool_calls;  ///< of role assistant
  bool prefix = false;               ///< the answer continues this last assistant message
};

struct Tool {
  std::string name;  ///< 1 to 64 of A-Z a-z 0-9 _ -
  std::string description;
  std::string parameters;  ///< JSON schema text; empty when the tool names none
  std::string raw;         ///< the whole {"type": "function", …} as compact JSON text
  bool strict = false;
};

enum class ToolChoice : std::uint8_t { none, automatic, required, named };
enum class ResponseFormat : std::uint8_t { text, json_object, json_schema };

struct ChatRequest {
  std::string model;
  std::vector<Message> messages;  ///< at least one
  GenerationParams params;
  bool logprobs = false;
  std::int32_t top_logprobs = 0;
  std::vector<Tool> tools;
  ToolChoice tool_choice = ToolChoice::none;  ///< automatic when tools are there and nothing is said
  std::string tool_name;                      ///< of tool_choice named; one of tools
  bool parallel_tool_calls = true;
  ResponseFormat response_format = ResponseFormat::text;
  std::string response_schema;   ///< of json_schema: JSON schema text
  std::optional<bool> thinking;  ///< empty: the model's default
  std::string reasoning_effort;  ///< empty, or none, minimal, low, medium, high, xhigh, max
};

/// Bytes to a valid request, or an invalid_argument error whose `where` names the parameter.
Result<ChatRequest> parse_chat_request(std::string_view body);

}  // namespace hp::api
