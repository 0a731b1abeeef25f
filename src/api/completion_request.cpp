#include "api/completion_request.h"

#include <fmt/format.h>

#include <limits>

#include "api/limits.h"

namespace hp::api {
namespace {

Result<std::vector<std::int32_t>> read_tokens(const JsonValue::Array& list) {
  std::vector<std::int32_t> tokens;
  tokens.reserve(list.size());
  for (const JsonValue& v : list) {
    const auto id = v.as_int();
    if (!id || *id < 0 || *id > std::numeric_limits<std::int32_t>::max()) {
      return bad_parameter(
          "prompt", fmt::format("expected token ids, found {}", v.is_number() ? v.dump() : std::string(v.type_name())));
    }
    tokens.push_back(static_cast<std::int32_t>(*id));
  }
  if (tokens.empty()) return bad_parameter("prompt", "a list of token ids must not be empty");
  return tokens;
}

Result<Prompt> read_prompt(const JsonValue& v) {
  if (const std::string* text = v.as_string()) return Prompt(*text);
  if (v.as_array() == nullptr) {
    return bad_parameter("prompt", fmt::format("expected strings or arrays of token ids, found {}", v.type_name()));
  }
  HP_TRY(auto tokens, read_tokens(*v.as_array()));
  return Prompt(std::move(tokens));
}

Result<std::vector<Prompt>> read_prompts(const JsonValue& body) {
  const JsonValue* v = body.find("prompt");
  if (v == nullptr || v->is_null()) return bad_parameter("prompt", "missing");
  const auto* list = v->as_array();
  const bool single = list == nullptr || list->empty() || list->front().is_number();
  std::vector<Prompt> prompts;
  if (single) {
    HP_TRY(auto prompt, read_prompt(*v));
    prompts.push_back(std::move(prompt));
    return prompts;
  }
  if (list->size() > kMaxPrompts) {
    return bad_parameter("prompt", fmt::format("expected at most {} prompts, found {}", kMaxPrompts, list->size()));
  }
  for (const JsonValue& item : *list) {
    HP_TRY(auto prompt, read_prompt(item));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

Status refuse_unsupported(const JsonValue& body, std::int32_t n) {
  HP_TRY(const auto echo, read_bool(body, "echo"));
  if (echo.value_or(false)) return bad_parameter("echo", "not supported by this version");
  HP_TRY(const auto best_of, read_integer(body, "best_of", 1, kMaxChoices));
  if (best_of && *best_of != n) return bad_parameter("best_of", "only the value of n is supported by this version");
  return {};
}

Status read_suffix(const JsonValue& body, CompletionRequest& request) {
  const JsonValue* suffix = body.find("suffix");
  if (suffix == nullptr || suffix->is_null()) return {};
  if (suffix->as_string() == nullptr) {
    return bad_parameter("suffix", fmt::format("expected a string, found {}", suffix->type_name()));
  }
  if (suffix->as_string()->empty()) return {};
  for (const Prompt& prompt : request.prompts) {
    if (!std::holds_alternative<std::string>(prompt)) {
      return bad_parameter("suffix", "only allowed with prompts that are text, not token ids");
    }
  }
  request.suffix = *suffix->as_string();
  return {};
}

}  // namespace

Result<CompletionRequest> parse_completion_request(std::string_view body) {
  HP_TRY(const JsonValue root, parse_object(body));
  CompletionRequest request;
  HP_TRY(request.model, read_model(root));
  HP_TRY(request.prompts, read_prompts(root));
  HP_TRY_VOID(read_suffix(root, request));
  HP_TRY(request.params, read_generation_params(root));
  HP_TRY_VOID(refuse_unsupported(root, request.params.n));
  HP_TRY(const auto logprobs, read_integer(root, "logprobs", 0, kMaxTopLogprobs));
  if (logprobs) request.logprobs = static_cast<std::int32_t>(*logprobs);
  return request;
}

}  // namespace hp::api
