// One choice of an answer: tokens in, parts of the answer out. Detokenizer, then stop strings, then for chats the reply
// parser (reasoning, tool calls). A pure function of the tokens: replaying those of another node leaves the same state,
// and then the same parts follow.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/chunk_writer.h"
#include "engine/request.h"
#include "node/stop_matcher.h"
#include "text/detokenizer.h"
#include "text/reply_parser.h"

namespace hp {

struct ChoiceRules {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<std::string> stop_strings;
  bool logprobs = false;
  std::optional<ReplyStyle> style;  ///< chats
  std::string answer_id;            ///< ids of tool calls are made from it, the choice and the call's index
};

class ChoiceStream {
 public:
  ChoiceStream(const ChoiceRules& rules, std::int32_t index);

  /// What one event adds. Events come in order; after finished() they must not.
  api::ChoicePart push(const TokenEvent& event);
  /// The same without an answer: the client has it.
  void replay(TokenId token);
  /// The end without another token: what was held back, and why it ended.
  api::ChoicePart finish(FinishReason reason);
  /// A resumed choice that had ended before.
  void mark_finished() { finished_ = true; }

  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool stopped_by_text() const { return matcher_.stopped(); }
  [[nodiscard]] std::int32_t tokens() const { return tokens_; }
  [[nodiscard]] std::int32_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  void add_token(TokenId token, bool is_stop, api::ChoicePart& part);
  void add_text(const std::string& text, api::ChoicePart& part);
  void end(FinishReason reason, api::ChoicePart& part);
  void take(ReplyDelta delta, api::ChoicePart& part) const;
  [[nodiscard]] std::string call_id(std::int32_t call) const;
  [[nodiscard]] api::ChoicePart empty_part() const;
  [[nodiscard]] api::TokenLogprobs logprobs_of(const TokenEvent& event) const;
  [[nodiscard]] std::string bytes_of(TokenId token) const;

  const ChoiceRules* rules_;
  std::int32_t index_;
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  std::optional<ReplyParser> parser_;
  std::int32_t tokens_ = 0;  ///< generated so far, replayed ones included
  std::int32_t reasoning_tokens_ = 0;
  bool finished_ = false;
};

/// Adds a later part to an earlier one: the whole answer of a choice from its parts.
void append_part(api::ChoicePart part, api::ChoicePart& whole);

}  // namespace hp
