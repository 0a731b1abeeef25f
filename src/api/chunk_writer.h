// The JSON bodies of answers, in OpenAI's shapes. Appends text; SSE framing and HTTP are others' business.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp::api {

struct Usage {
  std::int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  std::int64_t reasoning_tokens = 0;  ///< of completion_tokens
};

/// What every body of one answer repeats.
struct AnswerHead {
  std::string id, model;
  std::int64_t created = 0;        ///< seconds since 1970
  std::string system_fingerprint;  ///< of weights and build; empty: left out
};

struct LogprobEntry {
  std::string bytes;  ///< of the token; may be a part of a character
  double logprob = 0;
};

struct TokenLogprobs {
  LogprobEntry chosen;
  std::vector<LogprobEntry> top;
};

/// A whole tool call, or in a chunk what is new of it: id and name come once, with its first part.
struct ToolCallPart {
  std::int32_t index = 0;
  std::string id = {}, name = {}, arguments = {};
};

/// A finished choice, or in a chunk what is new of it.
struct ChoicePart {
  std::int32_t index = 0;
  std::string text;
  std::string reasoning = {};                          ///< chat only: reasoning_content
  std::vector<ToolCallPart> tool_calls = {};           ///< chat only
  std::string_view finish_reason;                      ///< empty: null, not finished
  std::optional<std::vector<TokenLogprobs>> logprobs;  ///< empty: not asked for
};

std::string chat_completion(const AnswerHead& head, std::span<const ChoicePart> choices, const Usage& usage);
std::string text_completion(const AnswerHead& head, std::span<const ChoicePart> choices, const Usage& usage);

/// One chunk. `first`: the delta opens the choice with its role. `usage_pending`: include_usage was asked for, so that
/// this chunk says "usage": null.
std::string chat_chunk(const AnswerHead& head, const ChoicePart& part, bool first, bool usage_pending);
/// The last chunk under include_usage: no choices, the usage.
std::string chat_usage_chunk(const AnswerHead& head, const Usage& usage);

/// The same two for a streamed /v1/completions; its chunks are text_completion objects.
std::string text_chunk(const AnswerHead& head, const ChoicePart& part, bool usage_pending);
std::string text_usage_chunk(const AnswerHead& head, const Usage& usage);

/// {"object": "list", "data": [...]} of GET /v1/models.
std::string models_list(std::span<const std::string> names, std::int64_t created);

/// The HTTP status of an error.
int http_status(ErrorCode code);
/// {"error": {"message", "type", "param", "code"}}; `where` is the param. `code`: a word that OpenAI's clients look
/// for; empty: the error's own.
std::string error_body(const Error& error, std::string_view code = {});
inline constexpr std::string_view kContextLengthExceeded = "context_length_exceeded";

}  // namespace hp::api
