// Inputs as data: one line per field gives its flag, its key in a price list, its unit, its range and its explanation,
// so that flags, TOML files, help, JSON and the sensitivity table cannot disagree.
#pragma once

#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"
#include "base/json.h"
#include "base/result.h"
#include "planner/language.h"

namespace hp::planner {

template <typename T>
struct InputField {
  std::string_view name;  ///< snake_case; the flag is the same with dashes
  double T::*member = nullptr;
  std::string_view unit;
  double min = 0, max = 0;
  Phrase help;
};

inline std::string flag_of(std::string_view name) {
  std::string flag(name);
  for (char& c : flag) c = c == '_' ? '-' : c;
  return flag;
}

/// The value, or a sentence that names the field, its range and the nearest value that would work.
template <typename T>
Status check_input(const InputField<T>& field, double value) {
  if (value >= field.min && value <= field.max) return {};
  const double nearest = std::isnan(value) || value < field.min ? field.min : field.max;
  Error error{.code = ErrorCode::invalid_argument,
              .message = fmt::format("{}: expected a number from {} to {}{}{}, found {}; the nearest that works is {}",
                                     field.name, field.min, field.max, field.unit.empty() ? "" : " ", field.unit, value,
                                     nearest),
              .where = std::string(field.name)};
  return fail(std::move(error));
}

template <typename T>
Status check_inputs(std::span<const InputField<T>> fields, const T& inputs) {
  for (const InputField<T>& field : fields) HP_TRY_VOID(check_input(field, inputs.*(field.member)));
  return {};
}

template <typename T>
Status set_input(std::span<const InputField<T>> fields, T& inputs, std::string_view name, double value) {
  std::vector<std::string_view> names;
  for (const InputField<T>& field : fields) {
    if (field.name == name) {
      HP_TRY_VOID(check_input(field, value));
      inputs.*(field.member) = value;
      return {};
    }
    names.push_back(field.name);
  }
  const std::string_view near = nearest_name(name, names);
  Error error{.code = ErrorCode::invalid_argument,
              .message = fmt::format("unknown field '{}'{}", name,
                                     near.empty() ? std::string("; homeport plan --help lists the fields")
                                                  : fmt::format("; did you mean '{}'?", near)),
              .where = std::string(name)};
  return fail(std::move(error));
}

/// Every member of the object must be a field and a number.
template <typename T>
Status set_inputs(std::span<const InputField<T>> fields, T& inputs, const JsonValue& object, std::string_view source) {
  const JsonValue::Object* members = object.as_object();
  if (members == nullptr)
    return fail(ErrorCode::invalid_argument, "{}: expected a table of fields, found {}", source, object.type_name());
  for (const auto& [name, value] : *members) {
    const std::optional<double> number = value.as_double();
    if (!number)
      return fail(ErrorCode::invalid_argument, "{}: {}: expected a number, found {}", source, name, value.type_name());
    if (Status status = set_input(fields, inputs, name, *number); !status)
      return fail(std::move(status).error().with_context(source));
  }
  return {};
}

template <typename T>
void write_inputs(JsonWriter& json, std::span<const InputField<T>> fields, const T& inputs) {
  json.begin_object();
  for (const InputField<T>& field : fields) json.member(field.name, inputs.*(field.member));
  json.end_object();
}

}  // namespace hp::planner
