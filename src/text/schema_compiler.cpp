#include "text/schema_compiler.h"

#include <algorithm>
#include <array>

#include "text/limits.h"
#include "text/number_grammar.h"
#include "text/regex_dfa.h"

namespace hp {
namespace {

constexpr std::array<std::string_view, 7> kTypes = {"object",  "array",   "string", "number",
                                                    "integer", "boolean", "null"};

// Keywords that restrict what an answer may be and that no grammar here can hold to: refused, not ignored.
constexpr std::array<std::string_view, 14> kRefused = {"not",
                                                       "if",
                                                       "then",
                                                       "else",
                                                       "dependentRequired",
                                                       "dependentSchemas",
                                                       "dependencies",
                                                       "propertyNames",
                                                       "contains",
                                                       "minContains",
                                                       "maxContains",
                                                       "unevaluatedItems",
                                                       "$dynamicRef",
                                                       "$recursiveRef"};

/// Keywords that restrict one type only; a schema without "type" that has one is taken to mean that type.
struct Restricts {
  std::string_view keyword, type;
};
constexpr std::array<Restricts, 19> kRestricts = {{{"properties", "object"},
                                                   {"required", "object"},
                                                   {"additionalProperties", "object"},
                                                   {"minProperties", "object"},
                                                   {"maxProperties", "object"},
                                                   {"patternProperties", "object"},
                                                   {"items", "array"},
                                                   {"prefixItems", "array"},
                                                   {"minItems", "array"},
                                                   {"maxItems", "array"},
                                                   {"uniqueItems", "array"},
                                                   {"minLength", "string"},
                                                   {"maxLength", "string"},
                                                   {"pattern", "string"},
                                                   {"minimum", "number"},
                                                   {"maximum", "number"},
                                                   {"exclusiveMinimum", "number"},
                                                   {"exclusiveMaximum", "number"},
                                                   {"multipleOf", "number"}}};

bool restricts_anything(const JsonValue& schema) {
  for (const char* key : {"type", "enum", "anyOf"}) {
    if (schema.find(key) != nullptr) return true;
  }
  return std::any_of(kRestricts.begin(), kRestricts.end(),
                     [&](const Restricts& r) { return schema.find(r.keyword) != nullptr; });
}

Status refuse_unknown(const JsonValue& schema) {
  for (const std::string_view key : kRefused) {
    if (schema.find(key) != nullptr) return schema_error(fmt::format("the keyword '{}' is not supported", key));
  }
  for (const char* key : {"uniqueItems", "patternProperties"}) {
    const JsonValue* v = schema.find(key);
    if (v == nullptr || v->as_bool() == std::optional(false)) continue;
    if (v->as_object() != nullptr && v->as_object()->empty()) continue;
    return schema_error(fmt::format("the keyword '{}' is not supported", key));
  }
  return {};
}

bool is_of_type(const JsonValue& v, std::string_view type) {
  if (type == "integer") return v.as_int().has_value();
  return type == v.type_name();
}

std::string_view format_pattern(std::string_view format) {
  if (format == "date") return "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$";
  if (format == "time") return "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
  if (format == "date-time") {
    return "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
           "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";
  }
  if (format == "uuid") return "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
  if (format == "email")
    return "^[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?@[a-z0-9]{1,30}(\\.[a-z0-9]{1,20}){0,2}\\.[a-z]{2,8}$";
  if (format == "ipv4") {
    return "^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$";
  }
  return {};  // others are annotations, as in JSON schema itself
}

Result<std::optional<double>> bound(const JsonValue& schema, std::string_view name) {
  const JsonValue* v = schema.find(name);
  if (v == nullptr || v->as_bool()) return std::nullopt;
  if (!v->as_double()) return schema_error(fmt::format("'{}': expected a number, found {}", name, v->type_name()));
  return v->as_double();
}

/// minimum with exclusiveMinimum, as a number of its own or, in old drafts, as a flag; the same for the maximum.
Status read_bounds(const JsonValue& schema, NumberBounds& out) {
  HP_TRY(out.low, bound(schema, "minimum"));
  HP_TRY(out.high, bound(schema, "maximum"));
  HP_TRY(const auto above, bound(schema, "exclusiveMinimum"));
  HP_TRY(const auto below, bound(schema, "exclusiveMaximum"));
  const auto flag = [&](const char* name) {
    const JsonValue* v = schema.find(name);
    return v != nullptr && v->as_bool().value_or(false);
  };
  out.low_exclusive = flag("exclusiveMinimum");
  out.high_exclusive = flag("exclusiveMaximum");
  if (above && (!out.low || *above >= *out.low)) {
    out.low = above;
    out.low_exclusive = true;
  }
  if (below && (!out.high || *below <= *out.high)) {
    out.high = below;
    out.high_exclusive = true;
  }
  HP_TRY(out.multiple_of, bound(schema, "multipleOf"));
  if (out.multiple_of && !(*out.multiple_of > 0)) return schema_error("'multipleOf': expected a number above 0");
  return {};
}

}  // namespace

tl::unexpected<Error> schema_error(std::string message) {
  return fail(Error{.code = ErrorCode::invalid_argument, .message = "JSON schema: " + std::move(message)});
}

Result<std::int64_t> schema_count(const JsonValue& schema, std::string_view name, std::int64_t otherwise,
                                  std::int64_t most) {
  const JsonValue* v = schema.find(name);
  if (v == nullptr) return otherwise;
  const auto count = v->as_int();
  if (!count || *count < 0) return schema_error(fmt::format("'{}': expected a whole number from 0", name));
  if (*count > most)
    return schema_error(fmt::format("'{}': {} is more than the {} that are supported", name, *count, most));
  return *count;
}

Result<std::vector<std::string>> schema_types(const JsonValue& schema) {
  std::vector<std::string> names;
  const JsonValue* type = schema.find("type");
  if (type == nullptr) {
    for (const Restricts& r : kRestricts) {
      const bool known = std::find(names.begin(), names.end(), r.type) != names.end();
      if (schema.find(r.keyword) != nullptr && !known) names.emplace_back(r.type);
    }
    return names;
  }
  const JsonValue::Array one = {*type};
  for (const JsonValue& name : type->as_array() != nullptr ? *type->as_array() : one) {
    if (name.as_string() == nullptr || std::find(kTypes.begin(), kTypes.end(), *name.as_string()) == kTypes.end()) {
      return schema_error(fmt::format(
          "'type': expected object, array, string, number, integer, boolean or null, found {}", name.dump()));
    }
    if (std::find(names.begin(), names.end(), *name.as_string()) == names.end()) names.push_back(*name.as_string());
  }
  if (names.empty()) names.emplace_back("nothing");
  return names;
}

Status SchemaCompiler::check_size() {
  if (builder_.node_count() > text_limits::kGrammarNodesMax || builder_.rule_count() > text_limits::kGrammarRulesMax ||
      work_bytes_ > text_limits::kSchemaWorkBytesMax) {
    return schema_error("too large when written out; use fewer or smaller parts");
  }
  return {};
}

Result<RuleId> SchemaCompiler::compile(const JsonValue& document) {
  document_ = &document;
  ++documents_;
  HP_TRY(const RuleId rule, rule_of(document));
  HP_TRY_VOID(drain());
  return rule;
}

/// Equal schemas of one document share a rule; its inside is made later, so that nothing here is recursive.
Result<RuleId> SchemaCompiler::rule_of(const JsonValue& schema) {
  std::string key = schema.dump();
  work_bytes_ += key.size();
  HP_TRY_VOID(check_size());
  key += std::to_string(documents_);
  const auto known = rules_.find(key);
  if (known != rules_.end()) return known->second;
  const RuleId rule = builder_.rule();
  rules_.emplace(std::move(key), rule);
  made_.push_back(schema);
  pending_.push_back({rule, &made_.back()});
  return rule;
}

Status SchemaCompiler::drain() {
  while (!pending_.empty()) {
    const Pending next = pending_.back();
    pending_.pop_back();
    HP_TRY_VOID(emit(*next.schema, builder_.enter(next.rule), builder_.leave(next.rule)));
    HP_TRY_VOID(check_size());
  }
  return {};
}

Status SchemaCompiler::emit(const JsonValue& schema, NodeId from, NodeId to) {
  const JsonValue* reference = schema.find("$ref");
  if (reference != nullptr && reference->as_string() != nullptr && schema.as_object()->size() == 1) {
    HP_TRY(const JsonValue* target, resolve(*reference->as_string()));
    HP_TRY(const RuleId rule, rule_of(*target));
    builder_.free(builder_.call(from, rule), to);
    return {};
  }
  HP_TRY(const JsonValue flat, flatten(schema, 0));
  HP_TRY_VOID(refuse_unknown(flat));
  if (flat.find("anyOf") != nullptr) return emit_alternatives(flat, from, to);
  if (flat.find("enum") != nullptr) return emit_enum(flat, from, to);
  HP_TRY(const auto types, schema_types(flat));
  if (types.empty()) {
    builder_.free(builder_.call(from, any_value()), to);
    return {};
  }
  for (const std::string& type : types) {
    const bool covered = type == "integer" && std::find(types.begin(), types.end(), "number") != types.end();
    if (!covered) HP_TRY_VOID(emit_type(type, flat, from, to));
  }
  return {};
}

Status SchemaCompiler::emit_type(std::string_view type, const JsonValue& schema, NodeId from, NodeId to) {
  if (type == "object") return emit_object(schema, from, to);
  if (type == "array") return emit_array(schema, from, to);
  if (type == "string") return emit_string(schema, from, to);
  if (type == "number" || type == "integer") return emit_number(schema, type == "integer", from, to);
  if (type == "null") builder_.free(builder_.literal(from, "null"), to);
  if (type == "boolean") {
    builder_.free(builder_.literal(from, "true"), to);
    builder_.free(builder_.literal(from, "false"), to);
  }
  return {};
}

Status SchemaCompiler::emit_alternatives(const JsonValue& schema, NodeId from, NodeId to) {
  JsonValue::Object rest;
  for (const auto& [key, value] : *schema.as_object()) {
    if (key != "anyOf") rest.emplace_back(key, value);
  }
  const JsonValue common(std::move(rest));
  const bool alone = !restricts_anything(common);
  std::vector<RuleId> taken;
  for (const JsonValue& branch : *schema.find("anyOf")->as_array()) {
    const JsonValue whole =
        alone ? branch : JsonValue(JsonValue::Object{{"allOf", JsonValue(JsonValue::Array{common, branch})}});
    HP_TRY(const RuleId rule, rule_of(whole));
    if (std::find(taken.begin(), taken.end(), rule) != taken.end()) continue;
    taken.push_back(rule);
    builder_.free(builder_.call(from, rule), to);
  }
  return {};
}

/// The values' texts as a tree, so that few alternatives are open at a time.
Status SchemaCompiler::emit_enum(const JsonValue& schema, NodeId from, NodeId to) {
  HP_TRY(const auto types, schema_types(schema));
  NumberBounds bounds;
  HP_TRY_VOID(read_bounds(schema, bounds));
  HP_TRY(const auto min_length, schema_count(schema, "minLength", 0, text_limits::kStringLengthMax));
  std::map<std::pair<NodeId, char>, NodeId> tree;
  for (const JsonValue& value : *schema.find("enum")->as_array()) {
    const bool typed = types.empty() || std::any_of(types.begin(), types.end(),
                                                    [&](const std::string& type) { return is_of_type(value, type); });
    const auto number = value.as_double();
    const bool within =
        !number || ((!bounds.low || *number > *bounds.low || (*number == *bounds.low && !bounds.low_exclusive)) &&
                    (!bounds.high || *number < *bounds.high || (*number == *bounds.high && !bounds.high_exclusive)));
    const bool too_short =
        value.as_string() != nullptr && static_cast<std::int64_t>(value.as_string()->size()) < min_length;
    if (!typed || !within || too_short) continue;
    NodeId at = from;
    for (const char c : value.dump()) {
      const auto [next, fresh] = tree.try_emplace({at, c}, 0);
      if (fresh) next->second = builder_.literal(at, std::string_view(&c, 1));
      at = next->second;
    }
    builder_.free(at, to);
    HP_TRY_VOID(check_size());
  }
  return {};
}

Status SchemaCompiler::emit_number(const JsonValue& schema, bool integer, NodeId from, NodeId to) {
  NumberBounds bounds;
  HP_TRY_VOID(read_bounds(schema, bounds));
  bounds.integer = integer;
  if (!bounds.low && !bounds.high && !bounds.multiple_of) {
    add_any_number(builder_, from, to, integer);
    return {};
  }
  auto done = add_bounded_number(builder_, from, to, bounds);
  if (!done) return schema_error(done.error().message);
  return {};
}

Status SchemaCompiler::emit_string(const JsonValue& schema, NodeId from, NodeId to) {
  HP_TRY(const auto min, schema_count(schema, "minLength", 0, text_limits::kStringLengthMax));
  HP_TRY(const auto max, schema_count(schema, "maxLength", -1, std::int64_t{1} << 40U));
  if (max >= 0 && max < min) return {};
  const JsonValue* pattern = schema.find("pattern");
  const JsonValue* format = schema.find("format");
  if (pattern != nullptr && pattern->as_string() == nullptr) return schema_error("'pattern': expected a string");
  std::string regex = pattern == nullptr ? std::string() : *pattern->as_string();
  if (pattern == nullptr && format != nullptr && format->as_string() != nullptr)
    regex = format_pattern(*format->as_string());
  if (regex.empty()) {
    const std::int64_t most = max > text_limits::kStringLengthMax ? -1 : max;
    builder_.free(builder_.string(from, 0, static_cast<std::int32_t>(min), static_cast<std::int32_t>(most)), to);
    return {};
  }
  const std::string key = fmt::format("{} {} {}", min, max, regex);
  if (const auto known = patterns_.find(key); known != patterns_.end()) {
    builder_.free(builder_.string(from, known->second, 0, -1), to);
    return {};
  }
  auto dfa = pattern_dfa(regex);
  if (dfa && (min > 0 || max >= 0)) dfa = with_length(*dfa, min, max);
  if (!dfa) return schema_error(dfa.error().message);
  work_bytes_ += dfa->size() * text_limits::kDfaStateWork;
  HP_TRY_VOID(check_size());
  const std::uint32_t index = builder_.add_dfa(std::move(*dfa));
  patterns_.emplace(key, index);
  builder_.free(builder_.string(from, index, 0, -1), to);
  return {};
}

}  // namespace hp
