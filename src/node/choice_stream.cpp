#include "node/choice_stream.h"

#include <utility>

namespace hp {

std::string_view finish_name(FinishReason reason) {
  return reason == FinishReason::length ? "length" : "stop";
}

ChoiceStream::ChoiceStream(const ChoiceRules& rules, std::int32_t index)
    : rules_(&rules), index_(index), detokenizer_(*rules.tokenizer), matcher_(rules.stop_strings) {}

/// A stop token ends the answer and is no part of its text. Padding rows of a model's head have no token behind them.
void ChoiceStream::add_token(TokenId token, bool is_stop, std::string& out) {
  ++tokens_;
  if (is_stop || token >= rules_->tokenizer->vocab_size()) return;
  std::string text;
  detokenizer_.push(token, text);
  matcher_.push(text, out);
}

api::ChoicePart ChoiceStream::push(const TokenEvent& event) {
  api::ChoicePart part{.index = index_, .text = {}, .finish_reason = {}, .logprobs = {}};
  if (event.token) {
    const bool is_stop = event.finish == FinishReason::stop;
    add_token(*event.token, is_stop, part.text);
    if (rules_->logprobs && !is_stop) part.logprobs = std::vector<api::TokenLogprobs>{logprobs_of(event)};
  }
  if (matcher_.stopped()) {
    part.finish_reason = finish_name(FinishReason::stop);
  } else if (event.finish) {
    std::string rest;
    detokenizer_.finish(rest);
    matcher_.push(rest, part.text);
    matcher_.finish(part.text);
    part.finish_reason = finish_name(*event.finish);
  }
  finished_ = !part.finish_reason.empty();
  return part;
}

void ChoiceStream::replay(TokenId token) {
  std::string ignored;
  add_token(token, false, ignored);
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

}  // namespace hp
