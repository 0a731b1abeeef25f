// The body of POST /v1/chat/completions, read and checked. Tools and response_format are refused, not ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/generation_params.h"
#include "base/result.h"

namespace hp::api {

enum class Role : std::uint8_t { system, developer, user, assistant };

struct Message {
  Role role = Role::user;
  std::string content;  ///< text parts joined in their order
  std::string name;
};

struct ChatRequest {
  std::string model;
  std::vector<Message> messages;  ///< at least one
  GenerationParams params;
  bool logprobs = false;
  std::int32_t top_logprobs = 0;
};

/// Bytes to a valid request, or an invalid_argument error whose `where` names the parameter.
Result<ChatRequest> parse_chat_request(std::string_view body);

}  // namespace hp::api
