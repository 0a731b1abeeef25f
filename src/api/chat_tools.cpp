#include "api/chat_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "api/limits.h"

namespace hp::api {
namespace {

const JsonValue* present(const JsonValue& object, std::string_view name) {
  const JsonValue* v = object.find(name);
  return v == nullptr || v->is_null() ? nullptr : v;
}

bool is_tool_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxToolNameBytes && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

Result<Tool> read_tool(const JsonValue& v, const std::string& where) {
  const JsonValue* type = v.find("type");
  if (type == nullptr || type->as_string() == nullptr || *type->as_string() != "function") {
    return bad_parameter(where + ".type", "expected \"function\"");
  }
  const JsonValue* function = v.find("function");
  if (function == nullptr || function->as_object() == nullptr) {
    return bad_parameter(where + ".function", "expected an object with a name");
  }
  Tool tool;
  const JsonValue* name = function->find("name");
  if (name == nullptr || name->as_string() == nullptr || !is_tool_name(*name->as_string())) {
    return bad_parameter(where + ".function.name",
                         fmt::format("expected 1 to {} of A-Z, a-z, 0-9, _ and -", kMaxToolNameBytes));
  }
  tool.name = *name->as_string();
  if (const JsonValue* description = present(*function, "description")) {
    if (description->as_string() == nullptr) return bad_parameter(where + ".function.description", "expected a string");
    tool.description = *description->as_string();
  }
  if (const JsonValue* parameters = present(*function, "parameters")) {
    if (parameters->as_object() == nullptr) {
      return bad_parameter(where + ".function.parameters", "expected a JSON schema object");
    }
    tool.parameters = parameters->dump();
  }
  if (const JsonValue* strict = present(*function, "strict")) {
    if (!strict->as_bool()) return bad_parameter(where + ".function.strict", "expected true or false");
    tool.strict = *strict->as_bool();
  }
  tool.raw = v.dump();
  return tool;
}

Status read_tool_list(const JsonValue& body, ChatRequest& request) {
  const JsonValue* tools = present(body, "tools");
  if (tools == nullptr) return {};
  const auto* list = tools->as_array();
  if (list == nullptr) return bad_parameter("tools", fmt::format("expected an array, found {}", tools->type_name()));
  if (list->size() > kMaxTools) {
    return bad_parameter("tools", fmt::format("expected at most {}, found {}", kMaxTools, list->size()));
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    HP_TRY(auto tool, read_tool((*list)[i], fmt::format("tools[{}]", i)));
    for (const Tool& other : request.tools) {
      if (other.name == tool.name) {
        return bad_parameter(fmt::format("tools[{}].function.name", i),
                             fmt::format("\"{}\" stands there twice", tool.name));
      }
    }
    request.tools.push_back(std::move(tool));
  }
  return {};
}

Status read_named_choice(const JsonValue& choice, ChatRequest& request) {
  const JsonValue* type = choice.find("type");
  const JsonValue* function = choice.find("function");
  const JsonValue* name = function == nullptr ? nullptr : function->find("name");
  if (type == nullptr || type->as_string() == nullptr || *type->as_string() != "function" || name == nullptr ||
      name->as_string() == nullptr) {
    return bad_parameter("tool_choice",
                         "expected none, auto, required or {\"type\": \"function\", \"function\": {\"name\": …}}");
  }
  const bool known = std::any_of(request.tools.begin(), request.tools.end(),
                                 [&](const Tool& tool) { return tool.name == *name->as_string(); });
  if (!known) return bad_parameter("tool_choice", fmt::format("no tool is named \"{}\"", *name->as_string()));
  request.tool_choice = ToolChoice::named;
  request.tool_name = *name->as_string();
  return {};
}

Status read_tool_choice(const JsonValue& body, ChatRequest& request) {
  request.tool_choice = request.tools.empty() ? ToolChoice::none : ToolChoice::automatic;
  const JsonValue* choice = present(body, "tool_choice");
  if (choice == nullptr) return {};
  const std::string* word = choice->as_string();
  if (word == nullptr) return read_named_choice(*choice, request);
  if (*word == "none") {
    request.tool_choice = ToolChoice::none;
  } else if (*word == "required") {
    request.tool_choice = ToolChoice::required;
  } else if (*word != "auto") {
    return bad_parameter("tool_choice",
                         fmt::format("expected none, auto, required or a function, found \"{}\"", *word));
  }
  if (*word == "required" && request.tools.empty()) {
    return bad_parameter("tool_choice", "only allowed when tools are given");
  }
  return {};
}

}  // namespace

Status read_tools(const JsonValue& body, ChatRequest& request) {
  HP_TRY_VOID(read_tool_list(body, request));
  HP_TRY_VOID(read_tool_choice(body, request));
  HP_TRY(const auto parallel, read_bool(body, "parallel_tool_calls"));
  request.parallel_tool_calls = parallel.value_or(true);
  return {};
}

Status read_response_format(const JsonValue& body, ChatRequest& request) {
  const JsonValue* format = present(body, "response_format");
  if (format == nullptr) return {};
  const JsonValue* type = format->find("type");
  const std::string name = type == nullptr || type->as_string() == nullptr ? "" : *type->as_string();
  if (name == "text") return {};
  if (name == "json_object") {
    request.response_format = ResponseFormat::json_object;
  } else if (name == "json_schema") {
    request.response_format = ResponseFormat::json_schema;
    const JsonValue* wrapper = format->find("json_schema");
    const JsonValue* schema = wrapper == nullptr ? nullptr : wrapper->find("schema");
    if (schema == nullptr || schema->as_object() == nullptr) {
      return bad_parameter("response_format.json_schema.schema", "expected a JSON schema object");
    }
    request.response_schema = schema->dump();
  } else {
    return bad_parameter("response_format.type",
                         fmt::format("expected text, json_object or json_schema, found \"{}\"", name));
  }
  if (request.tool_choice == ToolChoice::required || request.tool_choice == ToolChoice::named) {
    return bad_parameter("response_format", "cannot be combined with a tool_choice that forces a call");
  }
  return {};
}

Status read_thinking(const JsonValue& body, ChatRequest& request) {
  if (const JsonValue* effort = present(body, "reasoning_effort")) {
    static constexpr std::array<std::string_view, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                                 "high", "xhigh",   "max"};
    const std::string* word = effort->as_string();
    if (word == nullptr || std::find(kEfforts.begin(), kEfforts.end(), *word) == kEfforts.end()) {
      return bad_parameter("reasoning_effort", "expected none, minimal, low, medium, high, xhigh or max");
    }
    request.reasoning_effort = *word;
    request.thinking = *word != "none";
  }
  if (const JsonValue* options = present(body, "chat_template_kwargs")) {  // vLLM's way to say it
    if (options->as_object() == nullptr) return bad_parameter("chat_template_kwargs", "expected an object");
    for (const std::string_view name : {"enable_thinking", "thinking"}) {
      HP_TRY(const auto flag, read_bool(*options, name));
      if (flag) request.thinking = flag;
    }
  }
  const JsonValue* thinking = present(body, "thinking");
  if (thinking == nullptr) return {};
  const JsonValue* type = thinking->find("type");
  const std::string word = type == nullptr || type->as_string() == nullptr ? "" : *type->as_string();
  if (word != "enabled" && word != "disabled") {
    return bad_parameter("thinking", "expected {\"type\": \"enabled\"} or {\"type\": \"disabled\"}");
  }
  request.thinking = word == "enabled";
  return {};
}

}  // namespace hp::api
