#include "api/chat_request.h"

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
  return std::nullopt;
}

Result<std::string> read_content(const JsonValue& message, const std::string& where) {
  const JsonValue* content = message.find("content");
  if (content == nullptr || content->is_null()) return bad_parameter(where, "missing");
  if (const std::string* text = content->as_string()) return *text;
  const auto* parts = content->as_array();
  if (parts == nullptr) {
    return bad_parameter(where, fmt::format("expected a string or an array of parts, found {}", content->type_name()));
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

Result<Message> read_message(const JsonValue& v, std::size_t index) {
  const std::string where = fmt::format("messages[{}]", index);
  if (v.as_object() == nullptr) return bad_parameter(where, fmt::format("expected an object, found {}", v.type_name()));
  const JsonValue* role = v.find("role");
  if (role == nullptr || role->as_string() == nullptr) return bad_parameter(where + ".role", "expected a string");
  const auto known = role_from(*role->as_string());
  if (!known) {
    return bad_parameter(where + ".role", fmt::format("expected system, developer, user or assistant, found \"{}\"",
                                                      *role->as_string()));
  }
  Message message;
  message.role = *known;
  HP_TRY(message.content, read_content(v, where + ".content"));
  const JsonValue* name = v.find("name");
  if (name != nullptr && !name->is_null()) {
    if (name->as_string() == nullptr) return bad_parameter(where + ".name", "expected a string");
    message.name = *name->as_string();
  }
  return message;
}

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
    HP_TRY(auto message, read_message(list[i], i));
    messages.push_back(std::move(message));
  }
  return messages;
}

Status refuse_unsupported(const JsonValue& body) {
  const JsonValue* tools = body.find("tools");
  if (tools != nullptr && !tools->is_null() && !(tools->as_array() != nullptr && tools->as_array()->empty())) {
    return bad_parameter("tools", "tool calls are not supported by this version");
  }
  const JsonValue* format = body.find("response_format");
  if (format == nullptr || format->is_null()) return {};
  const JsonValue* type = format->find("type");
  if (type == nullptr || type->as_string() == nullptr || *type->as_string() != "text") {
    return bad_parameter("response_format", "only {\"type\": \"text\"} is supported by this version");
  }
  return {};
}

}  // namespace

Result<ChatRequest> parse_chat_request(std::string_view body) {
  HP_TRY(const JsonValue root, parse_object(body));
  ChatRequest request;
  HP_TRY(request.model, read_model(root));
  HP_TRY(request.messages, read_messages(root));
  HP_TRY_VOID(refuse_unsupported(root));
  HP_TRY(request.params, read_generation_params(root));
  HP_TRY(const auto logprobs, read_bool(root, "logprobs"));
  request.logprobs = logprobs.value_or(false);
  HP_TRY(const auto top, read_integer(root, "top_logprobs", 0, kMaxTopLogprobs));
  if (top && !request.logprobs) return bad_parameter("top_logprobs", "only allowed when logprobs is true");
  request.top_logprobs = static_cast<std::int32_t>(top.value_or(0));
  return request;
}

}  // namespace hp::api
