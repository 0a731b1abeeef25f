#include "api/generation_params.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "api/limits.h"

namespace hp::api {
namespace {

const JsonValue* present(const JsonValue& body, std::string_view name) {
  const JsonValue* v = body.find(name);
  return v == nullptr || v->is_null() ? nullptr : v;
}

Status read_float(const JsonValue& body, std::string_view name, double low, double high, float& out) {
  HP_TRY(const auto v, read_number(body, name, low, high));
  if (v) out = static_cast<float>(*v);
  return {};
}

Status read_flag(const JsonValue& body, std::string_view name, bool& out) {
  HP_TRY(const auto v, read_bool(body, name));
  out = v.value_or(out);
  return {};
}

Status add_stop(const JsonValue& v, std::vector<std::string>& out) {
  const std::string* text = v.as_string();
  if (text == nullptr) {
    return bad_parameter("stop", fmt::format("expected a string or an array of strings, found {}", v.type_name()));
  }
  if (text->empty()) return bad_parameter("stop", "a stop string must not be empty");
  if (text->size() > kMaxStopBytes) {
    return bad_parameter(
        "stop", fmt::format("a stop string has {} bytes; at most {} are allowed", text->size(), kMaxStopBytes));
  }
  out.push_back(*text);
  return {};
}

Status read_stop(const JsonValue& body, std::vector<std::string>& out) {
  const JsonValue* v = present(body, "stop");
  if (v == nullptr) return {};
  const auto* list = v->as_array();
  if (list == nullptr) return add_stop(*v, out);
  if (list->size() > kMaxStopStrings) {
    return bad_parameter("stop", fmt::format("expected at most {} strings, found {}", kMaxStopStrings, list->size()));
  }
  for (const JsonValue& item : *list) HP_TRY_VOID(add_stop(item, out));
  return {};
}

Status read_stop_tokens(const JsonValue& body, std::vector<std::int32_t>& out) {
  const JsonValue* v = present(body, "stop_token_ids");
  if (v == nullptr) return {};
  const auto* list = v->as_array();
  if (list == nullptr) {
    return bad_parameter("stop_token_ids", fmt::format("expected an array, found {}", v->type_name()));
  }
  if (list->size() > kMaxStopTokens) {
    return bad_parameter("stop_token_ids",
                         fmt::format("expected at most {} tokens, found {}", kMaxStopTokens, list->size()));
  }
  for (const JsonValue& item : *list) {
    const auto token = item.as_int();
    if (!token || *token < 0 || *token > std::numeric_limits<std::int32_t>::max()) {
      return bad_parameter("stop_token_ids", fmt::format("expected token ids, found {}", item.dump()));
    }
    out.push_back(static_cast<std::int32_t>(*token));
  }
  return {};
}

Status read_logit_bias(const JsonValue& body, std::vector<std::pair<std::int32_t, float>>& out) {
  const JsonValue* v = present(body, "logit_bias");
  if (v == nullptr) return {};
  const auto* map = v->as_object();
  if (map == nullptr) {
    return bad_parameter("logit_bias", fmt::format("expected an object, found {}", v->type_name()));
  }
  if (map->size() > kMaxLogitBias) {
    return bad_parameter("logit_bias", fmt::format("expected at most {} tokens, found {}", kMaxLogitBias, map->size()));
  }
  for (const auto& [key, bias] : *map) {
    std::int32_t token = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size() || token < 0) {
      return bad_parameter("logit_bias", fmt::format("expected token ids as keys, found \"{}\"", key));
    }
    const auto number = bias.as_double();
    if (!number || !(*number >= -100 && *number <= 100)) {
      return bad_parameter("logit_bias",
                           fmt::format("expected a number from -100 to 100 for token {}, found {}", key, bias.dump()));
    }
    if (std::any_of(out.begin(), out.end(), [&](const auto& seen) { return seen.first == token; })) {
      return bad_parameter("logit_bias", fmt::format("token {} stands there twice", token));
    }
    out.emplace_back(token, static_cast<float>(*number));
  }
  return {};
}

Status read_max_tokens(const JsonValue& body, GenerationParams& out) {
  for (const std::string_view name : {"max_tokens", "max_completion_tokens"}) {  // the newer name wins
    HP_TRY(const auto v, read_integer(body, name, 1, kMaxTokens));
    if (v) out.max_tokens = static_cast<std::int32_t>(*v);
  }
  return {};
}

Status read_stream(const JsonValue& body, GenerationParams& out) {
  HP_TRY_VOID(read_flag(body, "stream", out.stream));
  const JsonValue* options = present(body, "stream_options");
  if (options == nullptr) return {};
  if (!out.stream) return bad_parameter("stream_options", "only allowed when stream is true");
  if (options->as_object() == nullptr) {
    return bad_parameter("stream_options", fmt::format("expected an object, found {}", options->type_name()));
  }
  return read_flag(*options, "include_usage", out.include_usage);
}

Status read_sampling(const JsonValue& body, GenerationParams& p) {
  HP_TRY_VOID(read_float(body, "temperature", 0, 2, p.temperature));
  HP_TRY_VOID(read_float(body, "top_p", 0, 1, p.top_p));
  // Compared as the float it became: 1e-60 is positive as a double and nothing as a float.
  if (!(p.top_p > 0)) return bad_parameter("top_p", "expected a number above 0 and at most 1");
  HP_TRY_VOID(read_float(body, "min_p", 0, 1, p.min_p));
  HP_TRY_VOID(read_float(body, "repetition_penalty", 0.01, 100, p.repetition_penalty));
  HP_TRY_VOID(read_float(body, "frequency_penalty", -2, 2, p.frequency_penalty));
  HP_TRY_VOID(read_float(body, "presence_penalty", -2, 2, p.presence_penalty));
  HP_TRY(const auto top_k, read_integer(body, "top_k", -1, std::numeric_limits<std::int32_t>::max()));
  p.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(top_k.value_or(0), 0));  // -1 is others' word for off
  return {};
}

}  // namespace

tl::unexpected<Error> bad_parameter(std::string_view name, std::string message) {
  return tl::unexpected<Error>(Error{.code = ErrorCode::invalid_argument,
                                     .message = fmt::format("'{}': {}", name, message),
                                     .where = std::string(name)});
}

Result<JsonValue> parse_object(std::string_view body) {
  auto parsed = JsonValue::parse(body);
  if (!parsed) {
    return fail(ErrorCode::invalid_argument, "the request body is not valid JSON: {}", parsed.error().message);
  }
  if (parsed->as_object() == nullptr) {
    return fail(ErrorCode::invalid_argument, "the request body must be a JSON object, found {}", parsed->type_name());
  }
  return std::move(*parsed);
}

Result<std::optional<double>> read_number(const JsonValue& body, std::string_view name, double low, double high) {
  const JsonValue* v = present(body, name);
  if (v == nullptr) return std::nullopt;
  const auto number = v->as_double();
  if (!number || !(*number >= low && *number <= high)) {
    return bad_parameter(name, fmt::format("expected a number from {} to {}, found {}", low, high,
                                           number ? v->dump() : std::string(v->type_name())));
  }
  return number;
}

Result<std::optional<std::int64_t>> read_integer(const JsonValue& body, std::string_view name, std::int64_t low,
                                                 std::int64_t high) {
  const JsonValue* v = present(body, name);
  if (v == nullptr) return std::nullopt;
  const auto number = v->as_int();
  if (!number || *number < low || *number > high) {
    return bad_parameter(name, fmt::format("expected an integer from {} to {}, found {}", low, high,
                                           v->is_number() ? v->dump() : std::string(v->type_name())));
  }
  return number;
}

Result<std::optional<bool>> read_bool(const JsonValue& body, std::string_view name) {
  const JsonValue* v = present(body, name);
  if (v == nullptr) return std::nullopt;
  const auto flag = v->as_bool();
  if (!flag) return bad_parameter(name, fmt::format("expected true or false, found {}", v->type_name()));
  return flag;
}

Result<std::string> read_model(const JsonValue& body) {
  const JsonValue* v = present(body, "model");
  if (v == nullptr) return bad_parameter("model", "missing; GET /v1/models lists the names");
  const std::string* name = v->as_string();
  if (name == nullptr || name->empty()) return bad_parameter("model", "expected a non-empty string");
  return *name;
}

Result<GenerationParams> read_generation_params(const JsonValue& body) {
  GenerationParams p;
  HP_TRY_VOID(read_sampling(body, p));
  HP_TRY_VOID(read_max_tokens(body, p));
  HP_TRY(const auto n, read_integer(body, "n", 1, kMaxChoices));
  p.n = static_cast<std::int32_t>(n.value_or(1));
  HP_TRY(const auto seed, read_integer(body, "seed", std::numeric_limits<std::int64_t>::min(),
                                       std::numeric_limits<std::int64_t>::max()));
  if (seed) p.seed = static_cast<std::uint64_t>(*seed);
  HP_TRY(const auto min_tokens, read_integer(body, "min_tokens", 0, kMaxTokens));
  p.min_tokens = static_cast<std::int32_t>(min_tokens.value_or(0));
  if (p.max_tokens && p.min_tokens > *p.max_tokens)
    return bad_parameter("min_tokens", fmt::format("{} is more than max_tokens, {}", p.min_tokens, *p.max_tokens));
  HP_TRY_VOID(read_stop(body, p.stop));
  HP_TRY_VOID(read_stop_tokens(body, p.stop_token_ids));
  HP_TRY_VOID(read_logit_bias(body, p.logit_bias));
  HP_TRY_VOID(read_flag(body, "ignore_eos", p.ignore_eos));
  HP_TRY_VOID(read_stream(body, p));
  return p;
}

}  // namespace hp::api
