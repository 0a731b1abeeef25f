#include "node/request_plan.h"

#include <algorithm>
#include <numeric>

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "node/conversation.h"
#include "node/limits.h"

namespace hp {
namespace {

constexpr std::int32_t kDefaultTextTokens = 16;  ///< of /v1/completions, as OpenAI has it

using api::bad_parameter;

Status check_name(const std::string& name, const PlanScope& scope) {
  if (scope.any_name || std::ranges::find(scope.names, name) != scope.names.end()) return {};
  return fail(
      Error{.code = ErrorCode::not_found,
            .message = fmt::format("the model '{}' is not served here; served: {}", name, fmt::join(scope.names, ", ")),
            .where = "model"});
}

Status take_params(const api::GenerationParams& p, const PlanScope& scope, RequestPlan& plan) {
  const std::int32_t vocab = scope.model.config.vocab;
  for (const auto& [token, bias] : p.logit_bias)
    if (token >= vocab)
      return bad_parameter("logit_bias",
                           fmt::format("token {} is outside the model's vocabulary of {} tokens", token, vocab));
  plan.stream = p.stream;
  plan.include_usage = p.include_usage;
  plan.n = p.n;
  plan.stop_strings = p.stop;
  if (!p.ignore_eos) plan.stop_tokens = scope.model.stop_tokens;
  for (const std::int32_t token : p.stop_token_ids) {
    if (token >= vocab)
      return bad_parameter("stop_token_ids",
                           fmt::format("token {} is outside the model's vocabulary of {} tokens", token, vocab));
    plan.stop_tokens.push_back(token);
  }
  plan.min_tokens = p.min_tokens;
  plan.has_seed = p.seed.has_value();
  SamplingParams& s = plan.sampling;
  s.temperature = p.temperature;
  s.top_k = p.top_k;
  s.top_p = p.top_p;
  s.min_p = p.min_p;
  s.repetition_penalty = p.repetition_penalty;
  s.frequency_penalty = p.frequency_penalty;
  s.presence_penalty = p.presence_penalty;
  s.logit_bias = p.logit_bias;
  s.seed = p.seed.value_or(0);
  return {};
}

/// Both lengths against the context; a max_tokens that was not given becomes `otherwise`, or all that is left.
Status fit(std::string_view prompt_name, std::optional<std::int32_t> max_tokens, std::int32_t otherwise,
           const PlanScope& scope, PromptPlan& prompt) {
  const auto length = static_cast<std::int64_t>(prompt.tokens.size());
  if (length == 0) return bad_parameter(prompt_name, "expected at least one token, found an empty prompt");
  const auto left = static_cast<std::int32_t>(std::max<std::int64_t>(scope.context - length, 0));
  if (scope.too_long != nullptr) *scope.too_long = left == 0 || max_tokens.value_or(0) > left;
  if (left == 0)
    return bad_parameter(prompt_name,
                         fmt::format("the prompt has {} tokens, but this model's context here is {} tokens, "
                                     "the answer included; shorten it",
                                     length, scope.context));
  if (max_tokens && *max_tokens > left)
    return bad_parameter("max_tokens",
                         fmt::format("{} tokens were asked for, but a prompt of {} tokens leaves {} in the "
                                     "context of {}; lower it or leave it out",
                                     *max_tokens, length, left, scope.context));
  prompt.length = length;
  prompt.max_tokens = max_tokens.value_or(std::min(otherwise, left));
  return {};
}

Result<RequestPlan> plan_chat(std::string_view body, const PlanScope& scope) {
  HP_TRY(const api::ChatRequest request, api::parse_chat_request(body));
  HP_TRY_VOID(check_name(request.model, scope));
  if (!scope.model.family)
    return fail(Error{.code = ErrorCode::invalid_argument, .message = scope.model.no_chat, .where = "messages"});
  RequestPlan plan;
  plan.kind = AnswerKind::chat;
  plan.model = request.model;
  HP_TRY_VOID(take_params(request.params, scope, plan));
  plan.sampling.logprobs = request.logprobs;
  plan.sampling.top_logprobs = request.top_logprobs;
  const Conversation conversation = conversation_of(request);
  plan.style = reply_style(*scope.model.family, conversation);
  HP_TRY(plan.grammar, answer_grammar(request, conversation, scope.model));
  if (plan.grammar.grammar) {
    if (plan.min_tokens > 0)
      return bad_parameter("min_tokens", "not together with a format or a forced tool call: a whole text must end");
    // For the same reason ignore_eos has no say here.
    if (request.params.ignore_eos)
      plan.stop_tokens.insert(plan.stop_tokens.end(), scope.model.stop_tokens.begin(), scope.model.stop_tokens.end());
  }
  auto tokens = encode_chat(*scope.model.family, conversation, *scope.model.tokenizer);
  if (!tokens) {
    Error error = std::move(tokens).error();
    if (error.where.empty()) error.where = "messages";
    return fail(std::move(error));
  }
  plan.prompts.push_back({.tokens = *std::move(tokens), .max_tokens = 0});
  HP_TRY_VOID(fit("messages", request.params.max_tokens, scope.context, scope, plan.prompts.front()));
  return plan;
}

Result<std::vector<TokenId>> prompt_tokens(const api::Prompt& prompt, const NodeModel& model) {
  std::vector<TokenId> tokens;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    const TokenizerSource& source = model.tokenizer->source();
    if (source.add_bos && source.bos) tokens.push_back(*source.bos);
    model.tokenizer->encode_with_special(*text, tokens);
    if (tokens.empty() && source.bos) tokens.push_back(*source.bos);  // an empty prompt: anything at all
    return tokens;
  }
  for (const std::int32_t t : std::get<std::vector<std::int32_t>>(prompt)) {
    if (t < 0 || t >= model.config.vocab)
      return bad_parameter(
          "prompt", fmt::format("token {} is outside the model's vocabulary of {} tokens", t, model.config.vocab));
    tokens.push_back(t);
  }
  return tokens;
}

Result<std::vector<TokenId>> fill_in_tokens(const std::string& prefix, const std::string& suffix,
                                            const NodeModel& model) {
  auto tokens = encode_fill_in(prefix, suffix, *model.tokenizer);
  if (!tokens) return bad_parameter("suffix", tokens.error().message);
  return tokens;
}

Result<RequestPlan> plan_text(std::string_view body, const PlanScope& scope) {
  HP_TRY(const api::CompletionRequest request, api::parse_completion_request(body));
  HP_TRY_VOID(check_name(request.model, scope));
  RequestPlan plan;
  plan.kind = AnswerKind::text;
  plan.model = request.model;
  HP_TRY_VOID(take_params(request.params, scope, plan));
  plan.sampling.logprobs = request.logprobs.has_value();
  plan.sampling.top_logprobs = request.logprobs.value_or(0);
  if (request.prompts.size() * static_cast<std::size_t>(plan.n) > static_cast<std::size_t>(kMaxAnswerChoices))
    return bad_parameter("n", fmt::format("{} prompts times n = {} is more than {} choices", request.prompts.size(),
                                          plan.n, kMaxAnswerChoices));
  for (const api::Prompt& prompt : request.prompts) {
    PromptPlan p;
    if (request.suffix) {
      HP_TRY(p.tokens, fill_in_tokens(std::get<std::string>(prompt), *request.suffix, scope.model));
    } else {
      HP_TRY(p.tokens, prompt_tokens(prompt, scope.model));
    }
    HP_TRY_VOID(fit("prompt", request.params.max_tokens, kDefaultTextTokens, scope, p));
    plan.prompts.push_back(std::move(p));
  }
  return plan;
}

Status take_resume(std::string_view body, const PlanScope& scope, RequestPlan& plan) {
  HP_TRY(plan.resumed, read_resume(body));
  for (const ResumedChoice& choice : plan.resumed) {
    if (choice.index >= plan.choices())
      return bad_parameter("homeport_resume", fmt::format("choice {} of {}", choice.index, plan.choices()));
    const PromptPlan& prompt = plan.prompts[static_cast<std::size_t>(choice.index / plan.n)];
    if (choice.tokens.size() > static_cast<std::size_t>(prompt.max_tokens))
      return bad_parameter("homeport_resume", fmt::format("choice {} has {} tokens, more than max_tokens {}",
                                                          choice.index, choice.tokens.size(), prompt.max_tokens));
    for (const TokenId t : choice.tokens)
      if (t >= scope.model.config.vocab)
        return bad_parameter("homeport_resume", fmt::format("token {} is outside the vocabulary", t));
  }
  return {};
}

}  // namespace

std::int64_t RequestPlan::prompt_tokens() const {
  return std::accumulate(prompts.begin(), prompts.end(), std::int64_t{0},
                         [](std::int64_t sum, const PromptPlan& p) { return sum + p.length; });
}

Result<RequestPlan> plan_request(AnswerKind kind, std::string_view body, const PlanScope& scope) {
  auto plan = kind == AnswerKind::chat ? plan_chat(body, scope) : plan_text(body, scope);
  if (plan && scope.resume) HP_TRY_VOID(take_resume(body, scope, *plan));
  return plan;
}

}  // namespace hp
