// A chat on the terminal: history, /commands, answers that Ctrl-C stops.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <string_view>

#include "cli/generation.h"

namespace hp::cli {

/// Answers as they come; reasoning is dimmed on a terminal and left out of pipes.
class AnswerPrinter final {
 public:
  AnswerPrinter();
  void print(std::string_view text, bool reasoning);
  void end();  ///< ends the line

 private:
  bool terminal_, dimmed_ = false, fresh_line_ = true;
};

struct ChatOptions {
  std::string system;
  SamplingParams sampling;
  bool fixed_seed = false;  ///< else each answer draws its own
  std::int32_t max_tokens = 0;
  std::optional<bool> thinking;
};

/// Until Ctrl-D or /quit. `stop` is what Ctrl-C sets.
Result<int> chat_screen(LocalEngine& local, ChatOptions options, std::atomic<bool>& stop);

}  // namespace hp::cli
