// One answer of a local engine, as text that comes piece by piece.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/local_engine.h"
#include "text/reply_parser.h"

namespace hp::cli {

struct Generation {
  std::vector<TokenId> prompt;
  SamplingParams sampling;
  std::int32_t max_tokens = 0;  ///< 0: as many as fit the context
  ReplyStyle style;
  bool raw = false;  ///< all of the text is content, special tokens spelled out
};

struct GenerationResult {
  std::string content, reasoning;
  FinishReason finish = FinishReason::stop;
  std::int32_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  double first_s = 0.0;   ///< from the start to the first token
  double decode_s = 0.0;  ///< from the first token to the last

  /// "37 + 8 tokens, first after 0.1 s, 54.3 tokens/s"
  [[nodiscard]] std::string summary() const;
};

using OnText = std::function<void(std::string_view text, bool reasoning)>;

/// Blocks; ends early, with what there is, when `stop` becomes true.
Result<GenerationResult> generate(LocalEngine& local, const Generation& what, const std::atomic<bool>& stop,
                                  const OnText& on_text);

}  // namespace hp::cli
