#include "base/json_peek.h"

#include <simdjson.h>

#include <memory>

#include "base/json.h"

namespace hp {
namespace {
namespace od = simdjson::ondemand;

constexpr std::size_t kKeptParserBytes = 1 << 20;  // the index of a larger body is freed after use

Status broken(simdjson::error_code error, std::size_t size) {
  return fail(ErrorCode::invalid_argument, "not a valid JSON object ({} bytes): {}", size,
              simdjson::error_message(error));
}

simdjson::error_code raw_value(od::value value, std::string_view& raw) {
  od::json_type type{};
  if (const auto error = value.type().get(type); error) return error;
  if (type == od::json_type::object) {
    od::object object;
    if (const auto error = value.get_object().get(object); error) return error;
    return object.raw_json().get(raw);
  }
  if (type == od::json_type::array) {
    od::array array;
    if (const auto error = value.get_array().get(array); error) return error;
    return array.raw_json().get(raw);
  }
  raw = value.raw_json_token();
  return simdjson::SUCCESS;
}

std::string_view trimmed(std::string_view raw) {
  while (!raw.empty() && (raw.back() == ' ' || raw.back() == '\n' || raw.back() == '\r' || raw.back() == '\t'))
    raw.remove_suffix(1);
  return raw;
}

Status visit(od::parser& parser, std::string& body, const JsonMemberVisitor& visitor) {
  od::document document;
  od::object object;
  const simdjson::padded_string_view text(body.data(), body.size(), body.capacity());
  if (const auto error = parser.iterate(text).get(document); error) return broken(error, body.size());
  if (const auto error = document.get_object().get(object); error) return broken(error, body.size());
  for (auto entry : object) {
    od::field field;
    std::string_view key, raw;
    if (const auto error = std::move(entry).get(field); error) return broken(error, body.size());
    if (const auto error = field.unescaped_key().get(key); error) return broken(error, body.size());
    if (const auto error = raw_value(field.value(), raw); error) return broken(error, body.size());
    visitor(key, trimmed(raw));
  }
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
    return fail(ErrorCode::invalid_argument, "not valid JSON: text after the object's end");
  return {};
}

}  // namespace

Status visit_members(std::string& body, const JsonMemberVisitor& visitor) {
  if (body.capacity() < body.size() + simdjson::SIMDJSON_PADDING)
    body.reserve(body.size() + simdjson::SIMDJSON_PADDING);
  if (body.size() > kKeptParserBytes) return visit(*std::make_unique<od::parser>(), body, visitor);
  static thread_local od::parser kept;
  return visit(kept, body, visitor);
}

std::string json_string_value(std::string_view raw) {
  if (raw.size() < 2 || raw.front() != '"' || raw.back() != '"') return {};
  const std::string_view inner = raw.substr(1, raw.size() - 2);
  if (inner.find('\\') == std::string_view::npos) return std::string(inner);
  const auto value = JsonValue::parse(raw);
  return value && value->as_string() != nullptr ? *value->as_string() : std::string();
}

}  // namespace hp
