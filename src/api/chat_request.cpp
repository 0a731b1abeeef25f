#include "api/chat_request.h"

#include "api/chat_messages.h"
#include "api/chat_tools.h"
#include "api/limits.h"

namespace hp::api {

Result<ChatRequest> parse_chat_request(std::string_view body) {
  HP_TRY(const JsonValue root, parse_object(body));
  ChatRequest request;
  HP_TRY(request.model, read_model(root));
  HP_TRY(request.messages, read_messages(root));
  HP_TRY_VOID(read_tools(root, request));
  HP_TRY_VOID(read_response_format(root, request));
  HP_TRY_VOID(read_thinking(root, request));
  HP_TRY(request.params, read_generation_params(root));
  HP_TRY(const auto logprobs, read_bool(root, "logprobs"));
  request.logprobs = logprobs.value_or(false);
  HP_TRY(const auto top, read_integer(root, "top_logprobs", 0, kMaxTopLogprobs));
  if (top && !request.logprobs) return bad_parameter("top_logprobs", "only allowed when logprobs is true");
  request.top_logprobs = static_cast<std::int32_t>(top.value_or(0));
  return request;
}

}  // namespace hp::api
