#include "api/chat_messages.h"

#include <fmt/format.h>

#include <optional>

#include "api/limits.h"

namespace hp::api {
namespace {

std::optional<Role> role_from(std::string_view name) {
  if (name == "system") return Role::system;
  if (name == "developer") return Role::developer;
  if (name == "user") return Role::user;
  if (name == "assistant") return Role::assistant;
  if (name == "tool") return Role::tool;
  return std::nullopt;
}

Result<std::string> read_content(const JsonValue& content, const std::string& where) {
  if (const std::string* text = content.as_string()) return *text;
  const auto* parts = content.as_array();
  if (parts == nullptr) {
    return bad_parameter(where, fmt::format("expected a string or an array of parts, found {}", content.type_name()));
  }
  std::string joined;
  for (std::size_t i = 0; i < parts->size(); ++i) {
    const JsonValue* type = (*parts)[i].find("type");
    const JsonValue* text = (*parts)[i].find("text");
    if (type == nullptr || type->as_string() == nullptr || *type->as_string() != "text") {
      return bad_parameter(fmt::format("{}[{}].type", where, i), "only parts of type \"text\" are supported");
    }
    if (text == nullptr || text->as_string() == nullptr) {
      return bad_parameter(fmt::format("{}[{}].text", where, i), "expected a string");
    }
    joined += *text->as_string();
  }
  return joined;
}

Result<std::string> read_optional_text(const JsonValue& object, std::string_view name, const std::string& where) {
  const JsonValue* v = object.find(name);
  if (v == nullptr || v->is_null()) return std::string();
  if (v->as_string() == nullptr) {
    return bad_parameter(fmt::format("{}.{}", where, name), fmt::format("expected a string, found {}", v->type_name()));
  }
  return *v->as_string();
}

Result<ToolCall> read_tool_call(const JsonValue& v, const std::string& where) {
  const JsonValue* type = v.find("type");
  if (type != nullptr && (type->as_string() == nullptr || *type->as_string() != "function")) {
    return bad_parameter(where + ".type", "expected \"function\"");
  }
  ToolCall call;
  HP_TRY(call.id, read_optional_text(v, "id", where));
  const JsonValue* function = v.find("function");
  if (function == nullptr || function->as_object() == nullptr) {
    return bad_parameter(where + ".function", "expected an object with name and arguments");
  }
  HP_TRY(call.name, read_optional_text(*function, "name", where + ".function"));
  if (call.name.empty()) return bad_parameter(where + ".function.name", "expected a non-empty string");
  HP_TRY(call.arguments, read_optional_text(*function, "arguments", where + ".function"));
  return call;
}

Status read_assistant(const JsonValue& v, const std::string& where, Message& message) {
  HP_TRY(message.reasoning, read_optional_text(v, "reasoning_content", where));
  const JsonValue* prefix = v.find("prefix");
  if (prefix != nullptr && !prefix->is_null()) {
    if (!prefix->as_bool()) return bad_parameter(where + ".prefix", "expected true or false");
    message.prefix = *prefix->as_bool();
  }
  const JsonValue* calls = v.find("tool_calls");
  if (calls == nullptr || calls->is_null()) return {};
  if (calls->as_array() == nullptr) {
    return bad_parameter(where + ".tool_calls", fmt::format("expected an array, found {}", calls->type_name()));
  }
  for (std::size_t i = 0; i < calls->as_array()->size(); ++i) {
    HP_TRY(auto call, read_tool_call((*calls->as_array())[i], fmt::format("{}.tool_calls[{}]", where, i)));
    message.tool_calls.push_back(std::move(call));
  }
  return {};
}

Result<Message> read_message(const JsonValue& v, std::size_t index, bool last) {
  const std::string where = fmt::format("messages[{}]", index);
  if (v.as_object() == nullptr) return bad_parameter(where, fmt::format("expected an object, found {}", v.type_name()));
  const JsonValue* role = v.find("role");
  if (role == nullptr || role->as_string() == nullptr) return bad_parameter(where + ".role", "expected a string");
  const auto known = role_from(*role->as_string());
  if (!known) {
    return bad_parameter(
        where + ".role",
        fmt::format("expected system, developer, user, assistant or tool, found \"{}\"", *role->as_string()));
  }
  Message message;
  message.role = *known;
  if (message.role == Role::assistant) HP_TRY_VOID(read_assistant(v, where, message));
  if (message.prefix && !last) return bad_parameter(where + ".prefix", "only the last message may have it");
  const JsonValue* content = v.find("content");
  if (content != nullptr && !content->is_null()) {
    HP_TRY(message.content, read_content(*content, where + ".content"));
  } else if (message.tool_calls.empty()) {
    return bad_parameter(where + ".content", "missing");
  }
  HP_TRY(message.name, read_optional_text(v, "name", where));
  HP_TRY(message.tool_call_id, read_optional_text(v, "tool_call_id", where));
  if (message.role == Role::tool && message.tool_call_id.empty()) {
    return bad_parameter(where + ".tool_call_id", "a message of role tool must name the call that it answers");
  }
  return message;
}

/// Every tool message answers a call of the assistant message that stands before it.
Status check_tool_answers(const std::vector<Message>& messages) {
  const Message* asked = nullptr;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != Role::tool) {
      asked = messages[i].tool_calls.empty() ? nullptr : &messages[i];
      continue;
    }
    if (asked == nullptr) {
      return bad_parameter(fmt::format("messages[{}].role", i),
                           "a message of role tool must follow an assistant message with tool_calls");
    }
    bool known = false;
    for (const ToolCall& call : asked->tool_calls)
      known = known || call.id.empty() || call.id == messages[i].tool_call_id;
    if (!known) {
      return bad_parameter(fmt::format("messages[{}].tool_call_id", i),
                           fmt::format("no call before has the id \"{}\"", messages[i].tool_call_id));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<Message>> read_messages(const JsonValue& body) {
  const JsonValue* v = body.find("messages");
  if (v == nullptr || v->as_array() == nullptr) return bad_parameter("messages", "expected an array of messages");
  const auto& list = *v->as_array();
  if (list.empty()) return bad_parameter("messages", "expected at least one message, found none");
  if (list.size() > kMaxMessages) {
    return bad_parameter("messages", fmt::format("expected at most {}, found {}", kMaxMessages, list.size()));
  }
  std::vector<Message> messages;
  for (std::size_t i = 0; i < list.size(); ++i) {
    HP_TRY(auto message, read_message(list[i], i, i + 1 == list.size()));
    messages.push_back(std::move(message));
  }
  HP_TRY_VOID(check_tool_answers(messages));
  return messages;
}

}  // namespace hp::api
