// JSON in and out. JsonValue is an owned tree (simdjson reads it, with limits); JsonWriter appends to a string, no
// tree.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hp {

/// A parsed JSON value. Objects keep the order of the text; on a repeated key the last one wins in find().
class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Member = std::pair<std::string, JsonValue>;
  using Object = std::vector<Member>;

  JsonValue() = default;  ///< null
  explicit JsonValue(bool v) : value_(v) {}
  explicit JsonValue(std::int64_t v) : value_(v) {}
  explicit JsonValue(double v) : value_(v) {}
  explicit JsonValue(std::string v) : value_(std::move(v)) {}
  explicit JsonValue(const char* v) : value_(std::string(v)) {}
  explicit JsonValue(Array v) : value_(std::move(v)) {}
  explicit JsonValue(Object v) : value_(std::move(v)) {}

  /// Strict UTF-8 and RFC 8259; deeper than `max_depth` or trailing text is an error.
  static Result<JsonValue> parse(std::string_view text, std::size_t max_depth = 64);

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  [[nodiscard]] bool is_number() const { return as_double().has_value(); }
  [[nodiscard]] bool is_integer() const { return std::holds_alternative<std::int64_t>(value_); }
  [[nodiscard]] std::optional<bool> as_bool() const;
  [[nodiscard]] std::optional<std::int64_t> as_int() const;  ///< also for a double with an integral value in range
  [[nodiscard]] std::optional<double> as_double() const;     ///< also for an integer
  [[nodiscard]] const std::string* as_string() const { return std::get_if<std::string>(&value_); }
  [[nodiscard]] const Array* as_array() const { return std::get_if<Array>(&value_); }
  [[nodiscard]] const Object* as_object() const { return std::get_if<Object>(&value_); }
  /// The member of an object, or null when this is no object or has no such key.
  [[nodiscard]] const JsonValue* find(std::string_view key) const;
  /// "object", "array", "string", "number", "boolean" or "null", for error messages.
  [[nodiscard]] std::string_view type_name() const;
  /// Compact text again; members in their order.
  [[nodiscard]] std::string dump() const;

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> value_;
};

/// Appends JSON text to a string. Commas and quotes are its business; balance is checked in the destructor.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_(out) {}
  ~JsonWriter();
  JsonWriter(const JsonWriter&) = delete;
  JsonWriter& operator=(const JsonWriter&) = delete;

  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);  ///< invalid UTF-8 becomes U+FFFD, so that the output is always valid
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool v);
  JsonWriter& value(std::int64_t v);
  JsonWriter& value(std::uint64_t v);
  JsonWriter& value(int v) { return value(static_cast<std::int64_t>(v)); }
  JsonWriter& value(double v);  ///< shortest form that reads back equal; NaN and infinities become null
  JsonWriter& null();
  JsonWriter& raw(std::string_view json);  ///< already JSON
  JsonWriter& json(const JsonValue& v);

  template <typename T>
  JsonWriter& member(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }

 private:
  void before_value();
  std::string& out_;
  int depth_ = 0;
  bool need_comma_ = false;
};

/// Appends `text` as a quoted JSON string.
void append_json_string(std::string& out, std::string_view text);

}  // namespace hp
