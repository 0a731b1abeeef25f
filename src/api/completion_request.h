// The body of POST /v1/completions, read and checked. echo and best_of are refused, not ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/generation_params.h"
#include "base/result.h"

namespace hp::api {

/// Text to be tokenized, or token ids as they are (not yet checked against a vocabulary).
using Prompt = std::variant<std::string, std::vector<std::int32_t>>;

struct CompletionRequest {
  std::string model;
  std::vector<Prompt> prompts;        ///< at least one
  std::optional<std::string> suffix;  ///< fill in the middle: the text after the answer; then every prompt is text
  GenerationParams params;
  std::optional<std::int32_t> logprobs;  ///< number of alternatives; 0 still reports the chosen token
};

/// Bytes to a valid request, or an invalid_argument error whose `where` names the parameter.
Result<CompletionRequest> parse_completion_request(std::string_view body);

}  // namespace hp::api
