// Makes one flat schema out of $ref, allOf and what stands beside them.
#include <algorithm>
#include <charconv>

#include "text/limits.h"
#include "text/schema_compiler.h"

namespace hp {
namespace {

JsonValue::Object members_of(const JsonValue& v) {
  return v.as_object() == nullptr ? JsonValue::Object() : *v.as_object();
}

JsonValue* find_in(JsonValue::Object& object, std::string_view name) {
  for (auto& [key, value] : object) {
    if (key == name) return &value;
  }
  return nullptr;
}

JsonValue never() {
  return JsonValue(JsonValue::Object{{"enum", JsonValue(JsonValue::Array())}});
}

JsonValue both(const JsonValue& a, const JsonValue& b) {
  return JsonValue(JsonValue::Object{{"allOf", JsonValue(JsonValue::Array{a, b})}});
}

JsonValue::Array as_list(const JsonValue& v) {
  return v.as_array() != nullptr ? *v.as_array() : JsonValue::Array{v};
}

bool is_text(const JsonValue& v, std::string_view text) {
  return v.as_string() != nullptr && *v.as_string() == text;
}

/// Types that both lists allow; an integer is a number too.
JsonValue common_types(const JsonValue& a, const JsonValue& b) {
  JsonValue::Array out;
  const JsonValue::Array left = as_list(a), right = as_list(b);
  const auto has = [](const JsonValue::Array& list, std::string_view name) {
    return std::any_of(list.begin(), list.end(), [&](const JsonValue& v) { return is_text(v, name); });
  };
  for (const char* name : {"null", "boolean", "integer", "number", "string", "array", "object"}) {
    const auto allows = [&](const JsonValue::Array& list) {
      return has(list, name) || (std::string_view(name) == "integer" && has(list, "number"));
    };
    const bool covered = std::string_view(name) == "integer" && has(left, "number") && has(right, "number");
    if (allows(left) && allows(right) && !covered) out.emplace_back(name);
  }
  return JsonValue(std::move(out));
}

JsonValue common_values(const JsonValue& a, const JsonValue& b) {
  JsonValue::Array out;
  const JsonValue::Array right = as_list(b);
  for (const JsonValue& v : as_list(a)) {
    const std::string text = v.dump();
    if (std::any_of(right.begin(), right.end(), [&](const JsonValue& w) { return w.dump() == text; })) out.push_back(v);
  }
  return JsonValue(std::move(out));
}

bool is_one_of(std::string_view key, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), key) != names.end();
}

/// Of two values of one keyword the one that says both.
Result<JsonValue> combine(std::string_view key, const JsonValue& a, const JsonValue& b) {
  if (is_one_of(key, {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})) {
    return a.as_double().value_or(0) >= b.as_double().value_or(0) ? a : b;
  }
  if (is_one_of(key, {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})) {
    return a.as_double().value_or(0) <= b.as_double().value_or(0) ? a : b;
  }
  if (key == "type") return common_types(a, b);
  if (key == "enum") return common_values(a, b);
  if (key == "required") {
    JsonValue::Array names = as_list(a);
    for (const JsonValue& name : as_list(b)) names.push_back(name);
    return JsonValue(std::move(names));
  }
  if (key == "items" || key == "additionalProperties") return a.dump() == b.dump() ? a : both(a, b);
  if (key == "anyOf") {
    JsonValue::Array branches;
    const JsonValue other(JsonValue::Object{{"anyOf", b}});
    for (const JsonValue& branch : as_list(a)) branches.push_back(both(branch, other));
    return JsonValue(std::move(branches));
  }
  if (is_one_of(key, {"pattern", "prefixItems", "multipleOf"}) && a.dump() != b.dump()) {
    return schema_error(fmt::format("two different '{}' that must hold together are not supported", key));
  }
  return a;  // an annotation
}

}  // namespace

Result<const JsonValue*> SchemaCompiler::resolve(std::string_view reference) const {
  if (!reference.starts_with('#')) {
    return schema_error(
        fmt::format("$ref \"{}\": only references into the schema itself (#/…) are supported", reference));
  }
  std::string_view rest = reference.substr(1);
  const JsonValue* at = document_;
  while (!rest.empty()) {
    if (rest[0] != '/') return schema_error(fmt::format("$ref \"{}\": expected '#' or '#/…'", reference));
    rest.remove_prefix(1);
    const std::string_view raw = rest.substr(0, rest.find('/'));
    rest.remove_prefix(raw.size());
    std::string name;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const bool escape = raw[i] == '~' && i + 1 < raw.size() && (raw[i + 1] == '0' || raw[i + 1] == '1');
      name += escape ? (raw[++i] == '0' ? '~' : '/') : raw[i];
    }
    std::size_t index = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const auto* list = at->as_array();
    const bool indexed =
        list != nullptr && error == std::errc() && end == name.data() + name.size() && index < list->size();
    at = indexed ? &(*list)[index] : at->find(name);
    if (at == nullptr) return schema_error(fmt::format("$ref \"{}\": there is nothing", reference));
  }
  return at;
}

/// One object without $ref, allOf, const and oneOf at its top.
Result<JsonValue> SchemaCompiler::flatten(const JsonValue& schema, int depth) {
  work_bytes_ += 64;
  if (const auto flag = schema.as_bool()) return *flag ? JsonValue(JsonValue::Object()) : never();
  if (schema.as_object() == nullptr) {
    return schema_error(fmt::format("expected an object or true or false, found {}", schema.type_name()));
  }
  if (depth > 64) return schema_error("a $ref or allOf leads back to itself without end");
  HP_TRY_VOID(check_size());
  JsonValue::Object own;
  for (const auto& [key, value] : *schema.as_object()) {
    if (key == "$ref" || key == "allOf" || key == "const" || key == "oneOf" || key == "anyOf") continue;
    if (key == "enum" && value.as_array() == nullptr) return schema_error("'enum': expected an array");
    own.emplace_back(key, value);
  }
  JsonValue flat(std::move(own));
  const auto join = [&](const JsonValue& more) -> Status {
    HP_TRY(flat, merge(flat, more));
    return {};
  };
  for (const char* key : {"anyOf", "oneOf"}) {  // oneOf as anyOf: an answer may fit two of its branches
    const JsonValue* branches = schema.find(key);
    if (branches == nullptr) continue;
    if (branches->as_array() == nullptr || branches->as_array()->empty()) {
      return schema_error(fmt::format("'{}': expected a non-empty array", key));
    }
    HP_TRY_VOID(join(JsonValue(JsonValue::Object{{"anyOf", *branches}})));
  }
  if (const JsonValue* value = schema.find("const")) {
    HP_TRY_VOID(join(JsonValue(JsonValue::Object{{"enum", JsonValue(JsonValue::Array{*value})}})));
  }
  if (const JsonValue* reference = schema.find("$ref")) {
    if (reference->as_string() == nullptr) return schema_error("'$ref': expected a string");
    HP_TRY(const JsonValue* target, resolve(*reference->as_string()));
    HP_TRY(const JsonValue there, flatten(*target, depth + 1));
    HP_TRY_VOID(join(there));
  }
  if (const JsonValue* all = schema.find("allOf")) {
    if (all->as_array() == nullptr) return schema_error("'allOf': expected an array");
    for (const JsonValue& part : *all->as_array()) {
      HP_TRY(const JsonValue there, flatten(part, depth + 1));
      HP_TRY_VOID(join(there));
    }
  }
  return flat;
}

/// Both are flat.
Result<JsonValue> SchemaCompiler::merge(const JsonValue& a, const JsonValue& b) {
  if (++merges_ > text_limits::kSchemaMergesMax) {
    return schema_error(
        fmt::format("more than {} combinations of allOf, anyOf and $ref", text_limits::kSchemaMergesMax));
  }
  if (a.as_object()->empty()) return b;
  if (b.as_object()->empty()) return a;
  work_bytes_ += a.dump().size() + b.dump().size();
  HP_TRY_VOID(check_size());
  HP_TRY(JsonValue properties, merge_properties(a, b));
  JsonValue::Object out = members_of(a);
  for (const auto& [key, value] : *b.as_object()) {
    JsonValue* mine = find_in(out, key);
    if (mine == nullptr) {
      out.emplace_back(key, value);
    } else if (key != "properties") {
      HP_TRY(*mine, combine(key, *mine, value));
    }
  }
  if (JsonValue* mine = find_in(out, "properties")) *mine = std::move(properties);
  return JsonValue(std::move(out));
}

/// A property that only one side declares must satisfy the other side's additionalProperties.
Result<JsonValue> SchemaCompiler::merge_properties(const JsonValue& a, const JsonValue& b) {
  JsonValue::Object out;
  const JsonValue* left = a.find("properties");
  const JsonValue* right = b.find("properties");
  for (const JsonValue* side : {left, right}) {
    if (side != nullptr && side->as_object() == nullptr) return schema_error("'properties': expected an object");
  }
  const JsonValue* more_left = a.find("additionalProperties");
  const JsonValue* more_right = b.find("additionalProperties");
  if (left != nullptr) {
    for (const auto& [name, schema] : *left->as_object()) {
      const JsonValue* other = right == nullptr ? nullptr : right->find(name);
      if (other == nullptr) other = more_right;
      out.emplace_back(name, other == nullptr ? schema : both(schema, *other));
    }
  }
  if (right != nullptr) {
    for (const auto& [name, schema] : *right->as_object()) {
      if (left != nullptr && left->find(name) != nullptr) continue;
      out.emplace_back(name, more_left == nullptr ? schema : both(schema, *more_left));
    }
  }
  return JsonValue(std::move(out));
}

}  // namespace hp
