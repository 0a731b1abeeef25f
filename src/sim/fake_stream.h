// One answer of the fake node, chunk by chunk. Private to fake_*.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/chunk_writer.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "net/http.h"

namespace hp {

/// Some tokens are half a character, unless the prompt has the word "steady": their text comes with the next one.
bool fake_held_back(std::string_view prompt, TokenId token);
/// A prompt with the word "endless" is answered to the limit.
bool fake_stops(std::string_view prompt, TokenId token, std::uint64_t position);
std::string fake_text(TokenId token);

struct FakeStream {
  struct Choice {
    std::uint64_t position = 0;
    std::string held, text;
    std::string finish_reason;
    bool started = false, finish_sent = false;
  };
  std::string prompt;
  std::uint64_t seed = 0;
  std::int64_t max_tokens = 0;
  bool chat = true, stream = false, include_usage = false, journal = false, seed_said = false, begun = false;
  api::AnswerHead head;
  std::vector<Choice> choices;
  std::int64_t prompt_tokens = 0, cached_tokens = 0, resumed_tokens = 0;
  std::shared_ptr<net::ResponseWriter> writer;
  TimePoint due{}, heartbeat_due{}, look_at{};
  bool gone = false;

  /// Bytes of the next token of every choice; true in `done` after the last.
  std::string step(bool& done);
  [[nodiscard]] std::string whole() const;

 private:
  std::string chunk(std::uint32_t index, const api::ChoicePart& part, bool first, std::uint64_t at,
                    const std::vector<TokenId>& tokens);
  void step_choice(std::uint32_t index, std::string& out);
  [[nodiscard]] api::Usage usage() const;
};

/// Reads body and headers; the error is the 400's message. A resume must carry this very stream's tokens.
Result<FakeStream> parse_fake_request(const net::HttpRequest& request, const std::string& model);

}  // namespace hp
