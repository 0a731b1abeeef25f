// The grammar that a chat request asks its answer to keep to, and its way into the engine.
#pragma once

#include <memory>
#include <optional>

#include "api/chat_request.h"
#include "base/result.h"
#include "engine/request.h"
#include "node/model_loader.h"
#include "text/grammar_matcher.h"

namespace hp {

struct AnswerGrammar {
  std::shared_ptr<const Grammar> grammar;  ///< null: any answer
  std::optional<TokenId> after;            ///< reasoning comes first; the grammar begins behind this token
};

/// response_format, and tool_choice required or named. An error names the parameter.
Result<AnswerGrammar> answer_grammar(const api::ChatRequest& request, const Conversation& conversation,
                                     const NodeModel& model);

/// One for each choice.
std::unique_ptr<Constraint> make_constraint(const AnswerGrammar& grammar, const NodeModel& model);

}  // namespace hp
