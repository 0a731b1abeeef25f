// Arrays and objects. White space between the parts is a space, or a line break and some indentation, or nothing:
// enough for every model's habits, too little to go on without end.
#include <algorithm>

#include "text/limits.h"
#include "text/schema_compiler.h"

namespace hp {

NodeId SchemaCompiler::blank(NodeId from) {
  if (!blank_) {
    blank_ = builder_.rule();
    const NodeId enter = builder_.enter(*blank_), leave = builder_.leave(*blank_);
    builder_.free(enter, leave);
    builder_.byte(enter, ' ', ' ', leave);
    NodeId at = builder_.node();
    builder_.byte(enter, '\n', '\n', at);
    for (int i = 0; i < text_limits::kIndentMax; ++i) {
      const NodeId next = builder_.node();
      builder_.free(at, leave);
      builder_.byte(at, ' ', ' ', next);
      builder_.byte(at, '\t', '\t', next);
      at = next;
    }
    builder_.free(at, leave);
  }
  return builder_.call(from, *blank_);
}

/// "key": value with any key that `keys` allows.
NodeId SchemaCompiler::pair(NodeId from, std::uint32_t keys, RuleId value) {
  const NodeId key = builder_.string(from, keys, 0, keys == 0 ? text_limits::kFreeKeyLengthMax : -1);
  return builder_.call(blank(builder_.literal(key, ":")), value);
}

RuleId SchemaCompiler::any_value() {
  if (any_value_) return *any_value_;
  any_value_ = builder_.rule();
  const NodeId from = builder_.enter(*any_value_), to = builder_.leave(*any_value_);
  for (const char* type : {"string", "number", "boolean", "null"}) {
    static_cast<void>(emit_type(type, JsonValue(JsonValue::Object()), from, to));  // without keywords nothing can fail
  }
  builder_.free(builder_.call(from, any_object()), to);
  const NodeId open = blank(builder_.literal(from, "["));
  const NodeId after = builder_.call(open, *any_value_);
  builder_.free(builder_.literal(open, "]"), to);
  builder_.free(builder_.literal(blank(after), "]"), to);
  builder_.free(builder_.call(blank(builder_.literal(after, ",")), *any_value_), after);
  return *any_value_;
}

RuleId SchemaCompiler::any_object() {
  if (any_object_) return *any_object_;
  any_object_ = builder_.rule();
  const RuleId values = any_value();
  static_cast<void>(emit_map(values, 0, 0, -1, builder_.enter(*any_object_), builder_.leave(*any_object_)));
  return *any_object_;
}

/// An object whose keys are not declared.
Status SchemaCompiler::emit_map(RuleId values, std::uint32_t keys, std::int64_t min, std::int64_t max, NodeId from,
                                NodeId to) {
  const NodeId open = blank(builder_.literal(from, "{"));
  if (min == 0) builder_.free(builder_.literal(open, "}"), to);
  if (max == 0) return {};
  NodeId after = pair(open, keys, values);
  for (std::int64_t count = 1;; ++count) {
    if (count >= min) builder_.free(builder_.literal(blank(after), "}"), to);
    if (max < 0 && count >= std::max<std::int64_t>(min, 1)) {
      builder_.free(pair(blank(builder_.literal(after, ",")), keys, values), after);
      return {};
    }
    if (count == max) return {};
    after = pair(blank(builder_.literal(after, ",")), keys, values);
    HP_TRY_VOID(check_size());
  }
}

Status SchemaCompiler::emit_array(const JsonValue& schema, NodeId from, NodeId to) {
  HP_TRY(const auto min, schema_count(schema, "minItems", 0, text_limits::kArrayItemsMax));
  HP_TRY(auto max, schema_count(schema, "maxItems", -1, std::int64_t{1} << 40U));
  if (max > text_limits::kArrayItemsMax) max = -1;
  const JsonValue* items = schema.find("items");
  const JsonValue* prefix = schema.find("prefixItems");
  if (items != nullptr && items->as_array() != nullptr) {  // the older way to write prefixItems
    prefix = items;
    items = schema.find("additionalItems");
  }
  if (prefix != nullptr && prefix->as_array() == nullptr) return schema_error("'prefixItems': expected an array");
  const std::size_t fixed = prefix == nullptr ? 0 : prefix->as_array()->size();
  const bool closed = items != nullptr && items->as_bool() == std::optional(false);
  if (closed) max = max < 0 ? static_cast<std::int64_t>(fixed) : std::min(max, static_cast<std::int64_t>(fixed));
  if (max >= 0 && max < min) return {};

  const NodeId open = blank(builder_.literal(from, "["));
  if (min == 0) builder_.free(builder_.literal(open, "]"), to);
  NodeId after = open;
  for (std::int64_t count = 0; max < 0 || count < max; ++count) {
    const auto at = static_cast<std::size_t>(count);
    RuleId rule = 0;
    if (at < fixed) {
      HP_TRY(rule, rule_of((*prefix->as_array())[at]));
    } else if (items != nullptr) {
      HP_TRY(rule, rule_of(*items));
    } else {
      rule = any_value();
    }
    const NodeId before = count == 0 ? open : blank(builder_.literal(after, ","));
    const NodeId next = builder_.call(before, rule);
    const bool loops = max < 0 && at >= fixed && count + 1 > min && count > 0;
    if (loops) {
      builder_.free(next, after);  // `after` can close already, and every further item is like this one
      return {};
    }
    after = next;
    if (count + 1 >= min) builder_.free(builder_.literal(blank(after), "]"), to);
    HP_TRY_VOID(check_size());
  }
  return {};
}

/// The declared properties in their order, then those that are only required.
Result<std::vector<SchemaCompiler::Property>> SchemaCompiler::properties_of(const JsonValue& schema,
                                                                            const JsonValue* additional) {
  std::vector<Property> out;
  if (const JsonValue* properties = schema.find("properties")) {
    if (properties->as_object() == nullptr) return schema_error("'properties': expected an object");
    for (const auto& [name, value] : *properties->as_object()) {
      if (value.as_bool() == std::optional(false)) continue;
      out.push_back({.name = name, .schema = value, .required = false});
    }
  }
  const JsonValue* required = schema.find("required");
  if (required == nullptr || required->as_bool()) return out;
  if (required->as_array() == nullptr) return schema_error("'required': expected an array of names");
  std::unordered_map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < out.size(); ++i) places.emplace(out[i].name, i);
  for (const JsonValue& name : *required->as_array()) {
    if (name.as_string() == nullptr) return schema_error("'required': expected an array of names");
    const auto [place, fresh] = places.try_emplace(*name.as_string(), out.size());
    if (fresh) {
      const JsonValue open{JsonValue::Object()};
      out.push_back(
          {.name = *name.as_string(), .schema = additional == nullptr ? open : *additional, .required = true});
    }
    out[place->second].required = true;
  }
  return out;
}

Status SchemaCompiler::emit_object(const JsonValue& schema, NodeId from, NodeId to) {
  const JsonValue* additional = schema.find("additionalProperties");
  HP_TRY(const auto properties, properties_of(schema, additional));
  HP_TRY(const auto min, schema_count(schema, "minProperties", 0, text_limits::kArrayItemsMax));
  HP_TRY(const auto max, schema_count(schema, "maxProperties", -1, text_limits::kArrayItemsMax));
  // Without a word about further properties a schema that declares some means those only, as strict modes do.
  const bool open = additional == nullptr ? properties.empty() : additional->as_bool() != std::optional(false);
  RuleId values = 0;
  if (open) {
    if (additional == nullptr || additional->as_bool()) {
      values = any_value();
    } else {
      HP_TRY(values, rule_of(*additional));
    }
  }
  if (properties.empty() && open) {
    if (min > 1) return schema_error("'minProperties' above 1 is supported only for declared properties");
    return emit_map(values, 0, min, max, from, to);
  }
  const auto required =
      std::count_if(properties.begin(), properties.end(), [](const Property& p) { return p.required; });
  if (min > required || (max >= 0 && (open || max < static_cast<std::int64_t>(properties.size())))) {
    return schema_error("'minProperties' and 'maxProperties' beside declared properties are not supported");
  }
  NodeId first = blank(builder_.literal(from, "{"));  // no property yet
  NodeId later = builder_.node();                     // after one
  for (const Property& property : properties) {
    const NodeId key = builder_.node(), next_first = builder_.node(), next_later = builder_.node();
    std::string spelled;
    append_json_string(spelled, property.name);
    HP_TRY(const RuleId rule, rule_of(property.schema));
    builder_.free(first, key);
    builder_.free(blank(builder_.literal(later, ",")), key);
    builder_.free(builder_.call(blank(builder_.literal(builder_.literal(key, spelled), ":")), rule), next_later);
    if (!property.required) {
      builder_.free(first, next_first);
      builder_.free(later, next_later);
    }
    first = next_first;
    later = next_later;
    HP_TRY_VOID(check_size());
  }
  if (open) {
    std::vector<std::string> names;
    for (const Property& property : properties) names.push_back(property.name);
    auto keys = other_strings_dfa(names);
    if (!keys) return schema_error(keys.error().message);
    const NodeId more = builder_.node();
    builder_.free(first, more);
    builder_.free(blank(builder_.literal(later, ",")), more);
    builder_.free(pair(more, builder_.add_dfa(std::move(*keys)), values), later);
  }
  builder_.free(builder_.literal(first, "}"), to);
  builder_.free(builder_.literal(blank(later), "}"), to);
  return {};
}

}  // namespace hp
