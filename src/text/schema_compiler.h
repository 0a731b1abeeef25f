// JSON schema to grammar nodes. Private to the schema_*.cpp files and json_schema.cpp.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/grammar.h"

namespace hp {

class SchemaCompiler {
 public:
  explicit SchemaCompiler(GrammarBuilder& builder) : builder_(builder) {}

  /// The rule of a whole schema document, which must outlive the compiler; $ref looks into it.
  Result<RuleId> compile(const JsonValue& document);
  RuleId any_value();
  RuleId any_object();

 private:
  struct Pending {
    RuleId rule;
    const JsonValue* schema;
  };
  struct Property {
    std::string name;
    JsonValue schema;
    bool required = false;
  };

  // schema_compiler.cpp
  Status drain();
  Result<RuleId> rule_of(const JsonValue& schema);
  Status emit(const JsonValue& schema, NodeId from, NodeId to);
  Status emit_type(std::string_view type, const JsonValue& schema, NodeId from, NodeId to);
  Status emit_alternatives(const JsonValue& schema, NodeId from, NodeId to);
  Status emit_enum(const JsonValue& schema, NodeId from, NodeId to);
  Status emit_number(const JsonValue& schema, bool integer, NodeId from, NodeId to);
  Status emit_string(const JsonValue& schema, NodeId from, NodeId to);
  Status check_size();

  // schema_containers.cpp
  Status emit_array(const JsonValue& schema, NodeId from, NodeId to);
  Status emit_object(const JsonValue& schema, NodeId from, NodeId to);
  Result<std::vector<Property>> properties_of(const JsonValue& schema, const JsonValue* additional);
  Status emit_map(RuleId values, std::uint32_t keys, std::int64_t min, std::int64_t max, NodeId from, NodeId to);
  NodeId blank(NodeId from);
  NodeId pair(NodeId from, std::uint32_t keys, RuleId value);

  // schema_merge.cpp
  Result<JsonValue> flatten(const JsonValue& schema, int depth);
  Result<JsonValue> merge(const JsonValue& a, const JsonValue& b);
  Result<JsonValue> merge_properties(const JsonValue& a, const JsonValue& b);
  Result<const JsonValue*> resolve(std::string_view reference) const;

  GrammarBuilder& builder_;
  const JsonValue* document_ = nullptr;
  std::size_t documents_ = 0;
  std::unordered_map<std::string, RuleId> rules_;  ///< by the number of the document and the schema's text
  std::map<std::string, std::uint32_t> patterns_;
  std::deque<JsonValue> made_;  ///< schemas that waiting rules point to
  std::vector<Pending> pending_;
  std::size_t merges_ = 0, work_bytes_ = 0;
  std::optional<RuleId> any_value_, any_object_, blank_;
};

/// A non-negative whole number of a schema, or `otherwise`.
Result<std::int64_t> schema_count(const JsonValue& schema, std::string_view name, std::int64_t otherwise,
                                  std::int64_t most);
tl::unexpected<Error> schema_error(std::string message);
/// Names of a schema's "type", every type when it says nothing.
Result<std::vector<std::string>> schema_types(const JsonValue& schema);

}  // namespace hp
