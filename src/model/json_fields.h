// Typed reading of one JSON object of a configuration file. Knows nothing of what the members mean.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/result.h"

namespace hp {

/// A member that is present and not null.
inline const JsonValue* json_member(const JsonValue& object, std::string_view key) {
  const JsonValue* v = object.find(key);
  return v == nullptr || v->is_null() ? nullptr : v;
}

/// Typed members of one JSON object; remembers the first one that is missing or of another type.
class JsonFields {
 public:
  explicit JsonFields(const JsonValue& object) : object_(object) {}

  std::int32_t integer(std::string_view key) {
    if (json_member(object_, key) == nullptr) note(key, "a number", "nothing");
    return integer_or(key, 1);
  }
  std::int32_t integer_or(std::string_view key, std::int32_t fallback) {
    const JsonValue* v = json_member(object_, key);
    if (v == nullptr) return fallback;
    const auto n = v->as_int();
    if (n && std::in_range<std::int32_t>(*n)) return static_cast<std::int32_t>(*n);
    note(key, "a whole number of 32 bits", v->dump());
    return fallback;
  }
  float number_or(std::string_view key, float fallback) {
    const JsonValue* v = json_member(object_, key);
    if (v == nullptr) return fallback;
    const auto n = v->as_double();
    if (n && std::isfinite(static_cast<float>(*n))) return static_cast<float>(*n);
    note(key, "a number", v->dump());
    return fallback;
  }
  bool flag_or(std::string_view key, bool fallback) {
    const JsonValue* v = json_member(object_, key);
    if (v == nullptr) return fallback;
    if (const auto b = v->as_bool()) return *b;
    note(key, "true or false", v->dump());
    return fallback;
  }
  bool flag(std::string_view key) { return flag_or(key, false); }
  std::string text_or(std::string_view key, std::string_view fallback) {
    const JsonValue* v = json_member(object_, key);
    if (v == nullptr) return std::string(fallback);
    if (const std::string* s = v->as_string()) return *s;
    note(key, "a string", v->dump());
    return std::string(fallback);
  }
  [[nodiscard]] bool has(std::string_view key) const { return json_member(object_, key) != nullptr; }
  [[nodiscard]] Status status() const {
    return error_.empty() ? Status() : fail(ErrorCode::corrupt_data, "{}", error_);
  }

 private:
  void note(std::string_view key, std::string_view expected, std::string_view found) {
    if (error_.empty()) error_ = fmt::format("'{}' is {}, expected {}", key, found.substr(0, 100), expected);
  }
  const JsonValue& object_;
  std::string error_;
};

}  // namespace hp
