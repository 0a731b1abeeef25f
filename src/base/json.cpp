#include "base/json.h"

#include <simdjson.h>

#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/utf8.h"

namespace hp {
namespace {

/// Reads simdjson's tree into ours; simdjson itself has refused text deeper than the limit.
JsonValue convert(simdjson::dom::element e) {
  switch (e.type()) {
    case simdjson::dom::element_type::ARRAY: {
      JsonValue::Array out;
      for (const simdjson::dom::element child : simdjson::dom::array(e)) out.push_back(convert(child));
      return JsonValue(std::move(out));
    }
    case simdjson::dom::element_type::OBJECT: {
      JsonValue::Object out;
      for (const auto field : simdjson::dom::object(e)) out.emplace_back(std::string(field.key), convert(field.value));
      return JsonValue(std::move(out));
    }
    case simdjson::dom::element_type::INT64:
      return JsonValue(std::int64_t(e));
    case simdjson::dom::element_type::UINT64:
      return JsonValue(static_cast<double>(std::uint64_t(e)));
    case simdjson::dom::element_type::DOUBLE:
      return JsonValue(double(e));
    case simdjson::dom::element_type::STRING:
      return JsonValue(std::string(std::string_view(e)));
    case simdjson::dom::element_type::BOOL:
      return JsonValue(bool(e));
    case simdjson::dom::element_type::NULL_VALUE:
      break;
  }
  return {};
}

/// Offset of the first byte that is no part of a UTF-8 character; the size of `text` when there is none.
std::size_t invalid_utf8_at(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const Utf8Step step = utf8_step(text.substr(i));
    if (!step.valid) break;
    i += step.bytes;
  }
  return i;
}

}  // namespace

Result<JsonValue> JsonValue::parse(std::string_view text, std::size_t max_depth) {
  simdjson::dom::parser parser;
  if (parser.allocate(std::max<std::size_t>(text.size(), 64), max_depth) != simdjson::SUCCESS)
    return fail(ErrorCode::resource_exhausted, "no memory to parse {} bytes of JSON", text.size());
  simdjson::dom::element root;
  if (const auto error = parser.parse(text.data(), text.size(), true).get(root); error != simdjson::SUCCESS) {
    if (error == simdjson::DEPTH_ERROR)
      return fail(ErrorCode::invalid_argument, "JSON is nested deeper than {} levels", max_depth);
    if (const std::size_t broken = invalid_utf8_at(text); broken < text.size())
      return fail(ErrorCode::invalid_argument, "not valid JSON: expected UTF-8, found byte 0x{:02x} at offset {}",
                  static_cast<unsigned char>(text[broken]), broken);
    return fail(ErrorCode::invalid_argument, "not valid JSON ({} bytes): {}", text.size(),
                simdjson::error_message(error));
  }
  return convert(root);
}

std::optional<bool> JsonValue::as_bool() const {
  const bool* v = std::get_if<bool>(&value_);
  return v != nullptr ? std::optional(*v) : std::nullopt;
}

std::optional<std::int64_t> JsonValue::as_int() const {
  if (const auto* v = std::get_if<std::int64_t>(&value_)) return *v;
  const double* d = std::get_if<double>(&value_);
  constexpr double kLimit = 9007199254740992.0;  // 2^53: every integral double up to here is exact
  if (d == nullptr || !(std::fabs(*d) <= kLimit) || std::trunc(*d) != *d) return std::nullopt;
  return static_cast<std::int64_t>(*d);
}

std::optional<double> JsonValue::as_double() const {
  if (const auto* v = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*v);
  const double* d = std::get_if<double>(&value_);
  return d != nullptr ? std::optional(*d) : std::nullopt;
}

const JsonValue* JsonValue::find(std::string_view key) const {
  const Object* object = as_object();
  if (object == nullptr) return nullptr;
  for (auto it = object->rbegin(); it != object->rend(); ++it)
    if (it->first == key) return &it->second;
  return nullptr;
}

std::string_view JsonValue::type_name() const {
  constexpr std::string_view kNames[] = {"null", "boolean", "number", "number", "string", "array", "object"};
  return kNames[value_.index()];
}

std::string JsonValue::dump() const {
  std::string out;
  JsonWriter(out).json(*this);
  return out;
}

JsonWriter::~JsonWriter() {
  HP_CHECK(depth_ == 0, "JSON left open at depth {}", depth_);
}

void JsonWriter::before_value() {
  if (need_comma_) out_ += ',';
  need_comma_ = true;
}

JsonWriter& JsonWriter::begin_object() {
  before_value();
  out_ += '{';
  ++depth_;
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::end_object() {
  out_ += '}';
  --depth_;
  need_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::begin_array() {
  before_value();
  out_ += '[';
  ++depth_;
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::end_array() {
  out_ += ']';
  --depth_;
  need_comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  before_value();
  append_json_string(out_, name);
  out_ += ':';
  need_comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  before_value();
  append_json_string(out_, text);
  return *this;
}

JsonWriter& JsonWriter::value(bool v) {
  return raw(v ? "true" : "false");
}
JsonWriter& JsonWriter::value(std::int64_t v) {
  return raw(fmt::format("{}", v));
}
JsonWriter& JsonWriter::value(std::uint64_t v) {
  return raw(fmt::format("{}", v));
}
JsonWriter& JsonWriter::value(double v) {
  if (v == 0.0 && std::signbit(v)) return raw("-0.0");  // "-0" would be read back as the integer 0
  return std::isfinite(v) ? raw(fmt::format("{}", v)) : null();
}
JsonWriter& JsonWriter::null() {
  return raw("null");
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  before_value();
  out_ += json;
  return *this;
}

JsonWriter& JsonWriter::json(const JsonValue& v) {
  if (const auto* object = v.as_object()) {
    begin_object();
    for (const auto& [name, member] : *object) key(name).json(member);
    return end_object();
  }
  if (const auto* array = v.as_array()) {
    begin_array();
    for (const JsonValue& item : *array) json(item);
    return end_array();
  }
  if (const std::string* text = v.as_string()) return value(std::string_view(*text));
  if (const auto b = v.as_bool()) return value(*b);
  if (v.is_null()) return null();
  if (v.is_integer()) return value(*v.as_int());
  return value(*v.as_double());
}

}  // namespace hp
