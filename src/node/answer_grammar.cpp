#include "node/answer_grammar.h"

#include <utility>

#include "text/json_schema.h"

namespace hp {
namespace {

class GrammarConstraint final : public Constraint {
 public:
  explicit GrammarConstraint(GrammarMatcher matcher) : matcher_(std::move(matcher)) {}
  void allowed(std::span<std::uint64_t> mask) override { matcher_.allowed(mask); }
  void accept(TokenId token) override { matcher_.accept(token); }

 private:
  GrammarMatcher matcher_;
};

tl::unexpected<Error> named(Error error, std::string_view parameter) {
  return api::bad_parameter(parameter, std::move(error.message));
}

Result<std::shared_ptr<const Grammar>> calls_grammar(const api::ChatRequest& request, const Conversation& conversation,
                                                     const NodeModel& model) {
  std::vector<ChatTool> tools;
  for (const ChatTool& tool : conversation.tools) {
    if (request.tool_choice == api::ToolChoice::required || tool.name == request.tool_name) tools.push_back(tool);
  }
  const ToolSyntax syntax = tool_syntax(*model.family);
  if (syntax == ToolSyntax::none) return api::bad_parameter("tool_choice", "this model has no tool calls");
  // A named function is called once, as OpenAI has it.
  const bool parallel = request.parallel_tool_calls && request.tool_choice == api::ToolChoice::required;
  auto grammar = tool_call_grammar(syntax, tools, parallel, *model.tokenizer);
  if (!grammar) return named(std::move(grammar).error(), "tools");
  return grammar;
}

}  // namespace

Result<AnswerGrammar> answer_grammar(const api::ChatRequest& request, const Conversation& conversation,
                                     const NodeModel& model) {
  AnswerGrammar out;
  if (request.tool_choice == api::ToolChoice::required || request.tool_choice == api::ToolChoice::named) {
    HP_TRY(out.grammar, calls_grammar(request, conversation, model));
  } else if (request.response_format == api::ResponseFormat::json_object) {
    HP_TRY(out.grammar, json_object_grammar());
  } else if (request.response_format == api::ResponseFormat::json_schema) {
    auto grammar = json_schema_grammar(request.response_schema);
    if (!grammar) return named(std::move(grammar).error(), "response_format");
    out.grammar = *std::move(grammar);
  }
  if (out.grammar && opens_in_reasoning(*model.family, conversation)) out.after = reasoning_end(*model.tokenizer);
  return out;
}

std::unique_ptr<Constraint> make_constraint(const AnswerGrammar& grammar, const NodeModel& model) {
  return std::make_unique<GrammarConstraint>(GrammarMatcher(grammar.grammar, model.trie, grammar.after));
}

}  // namespace hp
