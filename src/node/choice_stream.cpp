#include "node/choice_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "base/hash.h"

namespace hp {
namespace {

Detokenizer detokenizer_of(const ChoiceRules& rules) {
  return rules.style ? Detokenizer(*rules.tokenizer, ReplyParser::markers()) : Detokenizer(*rules.tokenizer);
}

}  // namespace

ChoiceStream::ChoiceStream(const ChoiceRules& rules, std::int32_t index)
    : rules_(&rules), index_(index), detokenizer_(detokenizer_of(rules)), matcher_(rules.stop_strings) {
  if (rules.style) parser_.emplace(*rules.style);
}

api::ChoicePart ChoiceStream::empty_part() const {
  return {.index = index_, .text = {}, .finish_reason = {}, .logprobs = {}};
}

/// A stop token ends the answer and is no part of its text. Padding rows of a model's head have no token behind them.
void ChoiceStream::add_token(TokenId token, bool is_stop, api::ChoicePart& part) {
  ++tokens_;
  if (parser_ && parser_->in_reasoning()) ++reasoning_tokens_;
  if (is_stop || token >= rules_->tokenizer->vocab_size()) return;
  std::string text, certain;
  detokenizer_.push(token, text);
  matcher_.push(text, certain);
  add_text(certain, part);
}

void ChoiceStream::add_text(const std::string& text, api::ChoicePart& part) {
  if (text.empty()) return;
  if (!parser_) {
    part.text += text;
    return;
  }
  ReplyDelta delta;
  parser_->push(text, delta);
  take(std::move(delta), part);
}

void ChoiceStream::take(ReplyDelta delta, api::ChoicePart& part) const {
  part.text += delta.content;
  part.reasoning += delta.reasoning;
  for (ToolCallDelta& call : delta.tool_calls)
    part.tool_calls.push_back({.index = call.index,
                               .id = call.name.empty() ? std::string() : call_id(call.index),
                               .name = std::move(call.name),
                               .arguments = std::move(call.arguments)});
}

/// The same on every node that goes on with this answer.
std::string ChoiceStream::call_id(std::int32_t call) const {
  const std::string all = fmt::format("{}/{}/{}", rules_->answer_id, index_, call);
  const Hash128 h = hash128(std::as_bytes(std::span(all)));
  return fmt::format("call_{:016x}{:08x}", h.low, static_cast<std::uint32_t>(h.high));
}

void ChoiceStream::end(FinishReason reason, api::ChoicePart& part) {
  if (!matcher_.stopped()) {
    std::string rest, certain;
    detokenizer_.finish(rest);
    matcher_.push(rest, certain);
    matcher_.finish(certain);
    add_text(certain, part);
  }
  if (parser_) {
    ReplyDelta delta;
    parser_->finish(delta);
    take(std::move(delta), part);
  }
  part.finish_reason = reason == FinishReason::length         ? "length"
                       : parser_ && parser_->has_tool_calls() ? "tool_calls"
                                                              : "stop";
  finished_ = true;
}

api::ChoicePart ChoiceStream::push(const TokenEvent& event) {
  api::ChoicePart part = empty_part();
  if (event.token) {
    const bool is_stop = event.finish == FinishReason::stop;
    add_token(*event.token, is_stop, part);
    if (rules_->logprobs && !is_stop) part.logprobs = std::vector<api::TokenLogprobs>{logprobs_of(event)};
  }
  if (matcher_.stopped()) {
    end(FinishReason::stop, part);
  } else if (event.finish) {
    end(*event.finish, part);
  }
  return part;
}

void ChoiceStream::replay(TokenId token) {
  api::ChoicePart ignored = empty_part();
  add_token(token, false, ignored);
}

api::ChoicePart ChoiceStream::finish(FinishReason reason) {
  api::ChoicePart part = empty_part();
  end(reason, part);
  return part;
}

std::string ChoiceStream::bytes_of(TokenId token) const {
  if (token < 0 || token >= rules_->tokenizer->vocab_size()) return {};
  const std::string_view bytes = rules_->tokenizer->token_bytes(token);
  return std::string(bytes.empty() ? rules_->tokenizer->token_text(token) : bytes);
}

api::TokenLogprobs ChoiceStream::logprobs_of(const TokenEvent& event) const {
  api::TokenLogprobs out{.chosen = {.bytes = bytes_of(*event.token), .logprob = static_cast<double>(event.logprob)},
                         .top = {}};
  for (const TokenLogprob& t : event.top)
    out.top.push_back({.bytes = bytes_of(t.token), .logprob = static_cast<double>(t.logprob)});
  return out;
}

void append_part(api::ChoicePart part, api::ChoicePart& whole) {
  whole.text += part.text;
  whole.reasoning += part.reasoning;
  for (api::ToolCallPart& call : part.tool_calls) {
    const auto same = std::ranges::find(whole.tool_calls, call.index, &api::ToolCallPart::index);
    if (same == whole.tool_calls.end()) {
      whole.tool_calls.push_back(std::move(call));
    } else {
      same->arguments += call.arguments;
    }
  }
  if (part.logprobs) std::ranges::move(*part.logprobs, std::back_inserter(*whole.logprobs));
  if (!part.finish_reason.empty()) whole.finish_reason = part.finish_reason;
}

}  // namespace hp
