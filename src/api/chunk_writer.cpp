#include "api/chunk_writer.h"

#include <algorithm>

#include "base/json.h"

namespace hp::api {
namespace {

void write_head(JsonWriter& w, const AnswerHead& head, std::string_view object) {
  w.member("id", std::string_view(head.id)).member("object", object).member("created", head.created);
  w.member("model", std::string_view(head.model));
  if (!head.system_fingerprint.empty()) w.member("system_fingerprint", std::string_view(head.system_fingerprint));
}

void write_usage(JsonWriter& w, const Usage& usage) {
  w.key("usage").begin_object();
  w.member("prompt_tokens", usage.prompt_tokens).member("completion_tokens", usage.completion_tokens);
  w.member("total_tokens", usage.prompt_tokens + usage.completion_tokens);
  // DeepSeek's names for the two parts of the prompt, beside OpenAI's.
  w.member("prompt_cache_hit_tokens", usage.cached_tokens);
  w.member("prompt_cache_miss_tokens", usage.prompt_tokens - usage.cached_tokens);
  w.key("prompt_tokens_details").begin_object().member("cached_tokens", usage.cached_tokens).end_object();
  w.key("completion_tokens_details").begin_object();
  w.member("reasoning_tokens", usage.reasoning_tokens).end_object();
  w.end_object();
}

// The client's JSON parsers know no infinity: a token of probability zero gets OpenAI's stand-in.
double finite(double logprob) {
  return std::max(logprob, -9999.0);
}

void write_entry(JsonWriter& w, const LogprobEntry& entry) {
  w.member("token", std::string_view(entry.bytes)).member("logprob", finite(entry.logprob));
  w.key("bytes").begin_array();
  for (const char c : entry.bytes) w.value(static_cast<int>(static_cast<unsigned char>(c)));
  w.end_array();
}

void write_chat_logprobs(JsonWriter& w, const ChoicePart& part) {
  w.key("logprobs");
  if (!part.logprobs) {
    w.null();
    return;
  }
  w.begin_object().key("content").begin_array();
  for (const TokenLogprobs& token : *part.logprobs) {
    w.begin_object();
    write_entry(w, token.chosen);
    w.key("top_logprobs").begin_array();
    for (const LogprobEntry& entry : token.top) {
      w.begin_object();
      write_entry(w, entry);
      w.end_object();
    }
    w.end_array().end_object();
  }
  w.end_array().end_object();
}

void write_text_logprobs(JsonWriter& w, const ChoicePart& part) {
  w.key("logprobs");
  if (!part.logprobs) {
    w.null();
    return;
  }
  w.begin_object().key("tokens").begin_array();
  for (const TokenLogprobs& token : *part.logprobs) w.value(std::string_view(token.chosen.bytes));
  w.end_array().key("token_logprobs").begin_array();
  for (const TokenLogprobs& token : *part.logprobs) w.value(finite(token.chosen.logprob));
  w.end_array().key("top_logprobs").begin_array();
  for (const TokenLogprobs& token : *part.logprobs) {
    w.begin_object();
    for (const LogprobEntry& entry : token.top) w.member(entry.bytes, finite(entry.logprob));
    w.end_object();
  }
  w.end_array().end_object();
}

void write_finish(JsonWriter& w, const ChoicePart& part) {
  w.key("finish_reason");
  if (part.finish_reason.empty()) {
    w.null();
  } else {
    w.value(part.finish_reason);
  }
}

/// With `chunk` each call carries its index, and id, type and name only where they are new.
void write_tool_calls(JsonWriter& w, const ChoicePart& part, bool chunk) {
  if (part.tool_calls.empty()) return;
  w.key("tool_calls").begin_array();
  for (const ToolCallPart& call : part.tool_calls) {
    w.begin_object();
    if (chunk) w.member("index", call.index);
    if (!call.id.empty()) w.member("id", std::string_view(call.id)).member("type", "function");
    w.key("function").begin_object();
    if (!call.name.empty()) w.member("name", std::string_view(call.name));
    w.member("arguments", std::string_view(call.arguments)).end_object();
    w.end_object();
  }
  w.end_array();
}

void write_message(JsonWriter& w, const ChoicePart& part) {
  w.key("message").begin_object().member("role", "assistant");
  if (part.text.empty() && !part.tool_calls.empty()) {
    w.key("content").null();
  } else {
    w.member("content", std::string_view(part.text));
  }
  if (!part.reasoning.empty()) w.member("reasoning_content", std::string_view(part.reasoning));
  write_tool_calls(w, part, false);
  w.end_object();
}

std::string_view error_type(ErrorCode code) {
  const int status = http_status(code);
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

}  // namespace

std::string chat_completion(const AnswerHead& head, std::span<const ChoicePart> choices, const Usage& usage) {
  std::string out;
  JsonWriter w(out);
  w.begin_object();
  write_head(w, head, "chat.completion");
  w.key("choices").begin_array();
  for (const ChoicePart& part : choices) {
    w.begin_object().member("index", part.index);
    write_message(w, part);
    write_chat_logprobs(w, part);
    write_finish(w, part);
    w.end_object();
  }
  w.end_array();
  write_usage(w, usage);
  w.end_object();
  return out;
}

std::string text_completion(const AnswerHead& head, std::span<const ChoicePart> choices, const Usage& usage) {
  std::string out;
  JsonWriter w(out);
  w.begin_object();
  write_head(w, head, "text_completion");
  w.key("choices").begin_array();
  for (const ChoicePart& part : choices) {
    w.begin_object().member("index", part.index).member("text", std::string_view(part.text));
    write_text_logprobs(w, part);
    write_finish(w, part);
    w.end_object();
  }
  w.end_array();
  write_usage(w, usage);
  w.end_object();
  return out;
}

std::string chat_chunk(const AnswerHead& head, const ChoicePart& part, bool first, bool usage_pending) {
  std::string out;
  JsonWriter w(out);
  w.begin_object();
  write_head(w, head, "chat.completion.chunk");
  w.key("choices").begin_array().begin_object().member("index", part.index).key("delta").begin_object();
  if (first) w.member("role", "assistant");
  const bool bare = part.reasoning.empty() && part.tool_calls.empty();
  if (!part.text.empty() || (first && bare)) w.member("content", std::string_view(part.text));
  if (!part.reasoning.empty()) w.member("reasoning_content", std::string_view(part.reasoning));
  write_tool_calls(w, part, true);
  w.end_object();
  write_chat_logprobs(w, part);
  write_finish(w, part);
  w.end_object().end_array();
  if (usage_pending) w.key("usage").null();
  w.end_object();
  return out;
}

std::string chat_usage_chunk(const AnswerHead& head, const Usage& usage) {
  std::string out;
  JsonWriter w(out);
  w.begin_object();
  write_head(w, head, "chat.completion.chunk");
  w.key("choices").begin_array().end_array();
  write_usage(w, usage);
  w.end_object();
  return out;
}

std::string text_chunk(const AnswerHead& head, const ChoicePart& part, bool usage_pending) {
  std::string out;
  JsonWriter w(out);
  w.begin_object();
  write_head(w, head, "text_completion");
  w.key("choices").begin_array().begin_object();
  w.member("index", part.index).member("text", std::string_view(part.text));
  write_text_logprobs(w, part);
  write_finish(w, part);
  w.end_object().end_array();
  if (usage_pending) w.key("usage").null();
  w.end_object();
  return out;
}

std::string text_usage_chunk(const AnswerHead& head, const Usage& usage) {
  return text_completion(head, {}, usage);
}

std::string models_list(std::span<const std::string> names, std::int64_t created) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().member("object", "list").key("data").begin_array();
  for (const std::string& name : names) {
    w.begin_object().member("id", std::string_view(name)).member("object", "model").member("created", created);
    w.member("owned_by", "homeport").end_object();
  }
  w.end_array().end_object();
  return out;
}

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return 400;
    case ErrorCode::not_found:
      return 404;
    case ErrorCode::resource_exhausted:
      return 429;
    case ErrorCode::unsupported:
      return 501;
    case ErrorCode::cancelled:
    case ErrorCode::unavailable:
      return 503;
    case ErrorCode::deadline_exceeded:
      return 504;
    case ErrorCode::corrupt_data:
    case ErrorCode::io_error:
    case ErrorCode::internal:
      return 500;
  }
  return 500;
}

std::string error_body(const Error& error, std::string_view code) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().key("error").begin_object().member("message", std::string_view(error.message));
  w.member("type", error_type(error.code)).key("param");
  if (error.where.empty()) {
    w.null();
  } else {
    w.value(std::string_view(error.where));
  }
  w.member("code", code.empty() ? to_string(error.code) : code).end_object().end_object();
  return out;
}

}  // namespace hp::api
