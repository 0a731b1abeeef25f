#include "text/json_schema.h"

#include <deque>

#include "base/json.h"
#include "text/limits.h"
#include "text/schema_compiler.h"

namespace hp {
namespace {

Result<std::shared_ptr<const Grammar>> finish(GrammarBuilder&& builder, RuleId root) {
  auto grammar = std::move(builder).build(root);
  if (!grammar) return schema_error(grammar.error().message);
  return std::make_shared<const Grammar>(std::move(*grammar));
}

Result<JsonValue> parse_schema(std::string_view text) {
  if (text.size() > text_limits::kSchemaBytesMax) {
    return schema_error(fmt::format("{} bytes; expected at most {}", text.size(), text_limits::kSchemaBytesMax));
  }
  auto parsed = JsonValue::parse(text);
  if (!parsed) return schema_error(parsed.error().message);
  return std::move(*parsed);
}

/// A marker of a family: its special token, or its spelling in a vocabulary without one.
NodeId marker(GrammarBuilder& builder, const Tokenizer& tokenizer, NodeId from, std::string_view spelling) {
  const auto token = tokenizer.special(spelling);
  return token ? builder.token(from, *token) : builder.literal(from, spelling);
}

/// One call from its opening marker on, as the family's template writes it.
NodeId call_of(GrammarBuilder& builder, ToolSyntax syntax, const Tokenizer& tokenizer, const ChatTool& tool,
               RuleId arguments, NodeId from) {
  const auto mark = [&](NodeId at, std::string_view spelling) { return marker(builder, tokenizer, at, spelling); };
  if (syntax == ToolSyntax::qwen) {
    NodeId at = builder.literal(mark(from, "<tool_call>"), "\n{\"name\": \"" + tool.name + "\", \"arguments\": ");
    return mark(builder.literal(builder.call(at, arguments), "}\n"), "</tool_call>");
  }
  NodeId at = mark(from, "<｜tool▁call▁begin｜>");
  if (syntax == ToolSyntax::deepseek_v31) {
    at = mark(builder.literal(at, tool.name), "<｜tool▁sep｜>");
    return mark(builder.call(at, arguments), "<｜tool▁call▁end｜>");
  }
  at = mark(builder.literal(at, "function"), "<｜tool▁sep｜>");
  at = builder.literal(at, tool.name + "\n```json\n");
  return mark(builder.literal(builder.call(at, arguments), "\n```"), "<｜tool▁call▁end｜>");
}

}  // namespace

Result<std::shared_ptr<const Grammar>> json_object_grammar() {
  GrammarBuilder builder;
  const RuleId root = SchemaCompiler(builder).any_object();
  return finish(std::move(builder), root);
}

Result<std::shared_ptr<const Grammar>> json_schema_grammar(std::string_view schema) {
  HP_TRY(const JsonValue document, parse_schema(schema));
  GrammarBuilder builder;
  SchemaCompiler compiler(builder);
  HP_TRY(const RuleId root, compiler.compile(document));
  return finish(std::move(builder), root);
}

Result<std::shared_ptr<const Grammar>> tool_call_grammar(ToolSyntax syntax, std::span<const ChatTool> tools,
                                                         bool parallel, const Tokenizer& tokenizer) {
  if (syntax == ToolSyntax::none || tools.empty()) return schema_error("no tools that the model could call");
  GrammarBuilder builder;
  SchemaCompiler compiler(builder);
  std::deque<JsonValue> documents;
  const RuleId root = builder.rule();
  const NodeId begin = builder.node(), end = builder.node();
  for (const ChatTool& tool : tools) {
    HP_TRY(auto document, parse_schema(tool.parameters.empty() ? R"({"type":"object"})" : tool.parameters));
    documents.push_back(std::move(document));
    auto arguments = compiler.compile(documents.back());
    if (!arguments) return fail(std::move(arguments).error().with_context(fmt::format("tool {}", tool.name)));
    builder.free(call_of(builder, syntax, tokenizer, tool, *arguments, begin), end);
  }
  const bool deepseek = syntax != ToolSyntax::qwen;
  NodeId open = builder.enter(root);
  if (deepseek) open = marker(builder, tokenizer, open, "<｜tool▁calls▁begin｜>");
  builder.free(open, begin);
  if (parallel) {
    const bool line_break = syntax != ToolSyntax::deepseek_v31;
    builder.free(line_break ? builder.literal(end, "\n") : end, begin);
  }
  const NodeId close = deepseek ? marker(builder, tokenizer, end, "<｜tool▁calls▁end｜>") : end;
  builder.free(close, builder.leave(root));
  return finish(std::move(builder), root);
}

std::optional<TokenId> reasoning_end(const Tokenizer& tokenizer) {
  return tokenizer.special("</think>");
}

}  // namespace hp
