// A request made concrete for one model: what the API room has read, checked against vocabulary, context and names, and
// turned into tokens. Runs on a worker thread for large requests; touches nothing shared but the immutable model.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/request.h"
#include "node/answer_grammar.h"
#include "node/journal.h"
#include "node/model_loader.h"
#include "text/reply_parser.h"

namespace hp {

enum class AnswerKind : std::uint8_t { chat, text };

struct PromptPlan {
  std::vector<TokenId> tokens;
  std::int32_t max_tokens = 0;
  std::int64_t length = 0;  ///< of tokens, which move to the engine
};

struct RequestPlan {
  AnswerKind kind = AnswerKind::chat;
  std::string model;  ///< as the client called it
  bool stream = false, include_usage = false;
  std::vector<PromptPlan> prompts;  ///< at least one; one for chat
  std::int32_t n = 1;               ///< choices per prompt; choice i of prompt p has index p · n + i
  std::int32_t min_tokens = 0;
  SamplingParams sampling;
  bool has_seed = false;  ///< sampling.seed is the client's
  std::vector<TokenId> stop_tokens;
  std::vector<std::string> stop_strings;
  std::optional<ReplyStyle> style;  ///< how a chat's answer is taken apart
  AnswerGrammar grammar;            ///< what every choice keeps to
  std::vector<ResumedChoice> resumed;

  [[nodiscard]] std::int32_t choices() const { return static_cast<std::int32_t>(prompts.size()) * n; }
  [[nodiscard]] std::int64_t prompt_tokens() const;
};

/// What a request is checked against.
struct PlanScope {
  const NodeModel& model;
  std::span<const std::string> names;
  bool any_name = false;
  std::int32_t context = 0;  ///< tokens of one sequence: the model's context, or what all KV blocks hold if less
  bool resume = false;       ///< a member "homeport_resume" is honoured
  bool* too_long = nullptr;  ///< set when the error is that prompt and answer do not fit the context
};

/// An error names the parameter.
Result<RequestPlan> plan_request(AnswerKind kind, std::string_view body, const PlanScope& scope);

}  // namespace hp
