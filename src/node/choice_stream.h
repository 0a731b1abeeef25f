// One choice of an answer: tokens in, parts of the answer out. Detokenizer, then stop strings. A pure function of the
// tokens: replaying those of another node leaves the same state, and then the same parts follow.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/chunk_writer.h"
#include "engine/request.h"
#include "node/stop_matcher.h"
#include "text/detokenizer.h"

namespace hp {

struct ChoiceRules {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<std::string> stop_strings;
  bool logprobs = false;
};

class ChoiceStream {
 public:
  ChoiceStream(const ChoiceRules& rules, std::int32_t index);

  /// What one event adds. Events come in order; after finished() they must not.
  api::ChoicePart push(const TokenEvent& event);
  /// The same without an answer: the client has it.
  void replay(TokenId token);
  /// A resumed choice that had ended before.
  void mark_finished() { finished_ = true; }

  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] bool stopped_by_text() const { return matcher_.stopped(); }
  [[nodiscard]] std::int32_t index() const { return index_; }
  [[nodiscard]] std::int32_t tokens() const { return tokens_; }

 private:
  void add_token(TokenId token, bool is_stop, std::string& out);
  [[nodiscard]] api::TokenLogprobs logprobs_of(const TokenEvent& event) const;
  [[nodiscard]] std::string bytes_of(TokenId token) const;

  const ChoiceRules* rules_;
  std::int32_t index_;
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  std::int32_t tokens_ = 0;  ///< generated so far, replayed ones included
  bool finished_ = false;
};

/// "stop" or "length"; other ends are errors.
std::string_view finish_name(FinishReason reason);

}  // namespace hp
