// Test tool: chat_tool < requests > prompts. Each input line is a JSON object {"family", "messages", "tools",
// "thinking"} with OpenAI's messages and tools; each output line is {"pieces": [[literal, text], …]} or {"error",
// "where"}.
#include <iostream>
#include <string>

#include "base/json.h"
#include "text/chat.h"

namespace {

std::string text_of(const hp::JsonValue& object, const char* name) {
  const hp::JsonValue* v = object.find(name);
  return v == nullptr || v->as_string() == nullptr ? "" : *v->as_string();
}

hp::ChatMessage message_of(const hp::JsonValue& v) {
  hp::ChatMessage message;
  const std::string role = text_of(v, "role");
  message.role = role == "system"      ? hp::ChatRole::system
                 : role == "user"      ? hp::ChatRole::user
                 : role == "assistant" ? hp::ChatRole::assistant
                                       : hp::ChatRole::tool;
  message.content = text_of(v, "content");
  message.reasoning = text_of(v, "reasoning_content");
  message.tool_call_id = text_of(v, "tool_call_id");
  message.prefix = v.find("prefix") != nullptr && v.find("prefix")->as_bool().value_or(false);
  const hp::JsonValue* calls = v.find("tool_calls");
  if (calls == nullptr || calls->as_array() == nullptr) return message;
  for (const hp::JsonValue& call : *calls->as_array()) {
    const hp::JsonValue& function = *call.find("function");
    message.tool_calls.push_back({text_of(call, "id"), text_of(function, "name"), text_of(function, "arguments")});
  }
  return message;
}

hp::Conversation conversation_of(const hp::JsonValue& v) {
  hp::Conversation conversation;
  for (const hp::JsonValue& message : *v.find("messages")->as_array())
    conversation.messages.push_back(message_of(message));
  if (const hp::JsonValue* tools = v.find("tools"); tools != nullptr && tools->as_array() != nullptr) {
    for (const hp::JsonValue& tool : *tools->as_array()) {
      const hp::JsonValue& function = *tool.find("function");
      const hp::JsonValue* parameters = function.find("parameters");
      conversation.tools.push_back({text_of(function, "name"), text_of(function, "description"),
                                    parameters == nullptr ? "" : parameters->dump(), tool.dump()});
    }
  }
  if (const hp::JsonValue* thinking = v.find("thinking")) conversation.thinking = thinking->as_bool();
  return conversation;
}

std::string answer(const hp::JsonValue& request) {
  std::string out;
  hp::JsonWriter w(out);
  w.begin_object();
  for (int i = 0; i <= static_cast<int>(hp::ChatFamily::deepseek_v31); ++i) {
    const auto family = static_cast<hp::ChatFamily>(i);
    if (hp::to_string(family) != text_of(request, "family")) continue;
    const auto pieces = hp::render_chat(family, conversation_of(request));
    if (!pieces) {
      w.member("error", std::string_view(pieces.error().message))
          .member("where", std::string_view(pieces.error().where));
      break;
    }
    w.key("pieces").begin_array();
    for (const hp::PromptPiece& piece : *pieces) {
      w.begin_array().value(piece.literal).value(std::string_view(piece.text)).end_array();
    }
    w.end_array();
  }
  w.end_object();
  return out;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = hp::JsonValue::parse(line);
    if (!request) return 1;
    std::cout << answer(*request) << "\n";
  }
  return 0;
}
