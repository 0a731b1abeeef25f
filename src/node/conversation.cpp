#include "node/conversation.h"

namespace hp {
namespace {

ChatRole role_of(api::Role role) {
  switch (role) {
    case api::Role::system:
      return ChatRole::system;
    case api::Role::developer:
      return ChatRole::developer;
    case api::Role::user:
      return ChatRole::user;
    case api::Role::assistant:
      return ChatRole::assistant;
    case api::Role::tool:
      break;
  }
  return ChatRole::tool;
}

ChatMessage message_of(const api::Message& m) {
  ChatMessage out{.role = role_of(m.role),
                  .content = m.content,
                  .reasoning = m.reasoning,
                  .name = m.name,
                  .tool_call_id = m.tool_call_id,
                  .tool_calls = {},
                  .prefix = m.prefix};
  for (const api::ToolCall& c : m.tool_calls)
    out.tool_calls.push_back({.id = c.id, .name = c.name, .arguments = c.arguments});
  return out;
}

}  // namespace

Conversation conversation_of(const api::ChatRequest& request) {
  Conversation out;
  for (const api::Message& m : request.messages) out.messages.push_back(message_of(m));
  if (request.tool_choice != api::ToolChoice::none)
    for (const api::Tool& t : request.tools)
      out.tools.push_back({.name = t.name, .description = t.description, .parameters = t.parameters, .raw = t.raw});
  out.thinking = request.thinking;
  return out;
}

}  // namespace hp
