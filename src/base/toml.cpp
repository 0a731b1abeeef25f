#include "base/toml.h"

#include <toml++/toml.h>

#include <sstream>

namespace hp {
namespace {

JsonValue convert(const toml::node& node) {
  if (const toml::table* table = node.as_table()) {
    JsonValue::Object members;
    for (const auto& [key, child] : *table) members.emplace_back(std::string(key.str()), convert(child));
    return JsonValue(std::move(members));
  }
  if (const toml::array* array = node.as_array()) {
    JsonValue::Array values;
    for (const toml::node& child : *array) values.push_back(convert(child));
    return JsonValue(std::move(values));
  }
  if (const auto* text = node.as_string()) return JsonValue(text->get());
  if (const auto* integer = node.as_integer()) return JsonValue(integer->get());
  if (const auto* number = node.as_floating_point()) return JsonValue(number->get());
  if (const auto* flag = node.as_boolean()) return JsonValue(flag->get());
  std::ostringstream out;
  if (const auto* date = node.as_date()) out << *date;
  if (const auto* time = node.as_time()) out << *time;
  if (const auto* moment = node.as_date_time()) out << *moment;
  return JsonValue(out.str());
}

}  // namespace

Result<JsonValue> parse_toml(std::string_view text, std::string_view source_name) {
  try {
    return convert(toml::parse(text, source_name));
  } catch (const toml::parse_error& e) {
    return fail(ErrorCode::invalid_argument, "{}:{}: not valid TOML: {}", source_name, e.source().begin.line,
                e.description());
  }
}

}  // namespace hp
