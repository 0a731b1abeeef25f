#include "gateway/request_peek.h"

#include <algorithm>
#include <charconv>

#include "base/hash.h"
#include "base/json.h"
#include "base/json_peek.h"

namespace hp::gateway {
namespace {

constexpr std::int64_t kDefaultReplyTokens = 256;
constexpr std::size_t kBytesPerToken = 4;
constexpr std::size_t kFirstBlockBytes = 256;
constexpr std::size_t kLargestBlockBytes = 4096;

std::int64_t number_or(std::string_view raw, std::int64_t otherwise) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), value);
  return error == std::errc() && end == raw.data() + raw.size() ? value : otherwise;
}

bool is_zero(std::string_view raw) {
  double value = 1;
  const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), value);
  return error == std::errc() && end == raw.data() + raw.size() && value == 0;
}

// A list of strings or of token lists is so many prompts; a plain string or one list of tokens is one.
std::int64_t count_prompts(std::string_view raw) {
  const auto first = raw.find_first_not_of(" \t\r\n", 1);
  if (!raw.starts_with('[') || first == std::string_view::npos || (raw[first] != '"' && raw[first] != '[')) return 1;
  const auto list = JsonValue::parse(raw);
  return list && list->as_array() != nullptr ? static_cast<std::int64_t>(list->as_array()->size()) : 1;
}

void take(RequestPeek& peek, std::string_view key, std::string_view raw) {
  if (key == "model") {
    peek.model = json_string_value(raw);
  } else if (key == "stream") {
    peek.stream = raw == "true";
  } else if (key == "stream_options") {
    const auto at = raw.find("\"include_usage\"");
    peek.include_usage = at != std::string_view::npos && raw.find("true", at) != std::string_view::npos;
  } else if (key == "messages" || key == "prompt") {
    peek.prompt_bytes = raw.size();
    peek.prefix = {};
    peek.prefix.add_text(raw);
    if (key == "prompt") peek.prompts = count_prompts(raw);
  } else if (key == "user") {
    peek.user = json_string_value(raw);
  } else if (key == "session_id") {
    peek.session = json_string_value(raw);
  } else if (key == "max_tokens" || key == "max_completion_tokens") {
    peek.max_tokens = std::max<std::int64_t>(0, number_or(raw, 0));
  } else if (key == "priority") {
    peek.priority = json_string_value(raw);
  } else if (key == "deadline_ms") {
    peek.deadline_ms = raw == "null" ? 0 : std::max<std::int64_t>(-1, number_or(raw, -1));
    if (raw == "0") peek.deadline_ms = -1;
  } else if (key == "n") {
    peek.choices = std::clamp<std::int64_t>(number_or(raw, 1), 1, kMaxChoices);
  } else if (key == "seed") {
    peek.seeded = raw != "null";
  } else if (key == "temperature") {
    peek.cold = is_zero(raw);
  } else if (key == "homeport_resume") {
    peek.has_resume = true;
  }
}

}  // namespace

std::uint64_t hash_text(std::string_view text, std::uint64_t seed) {
  return hash128(std::as_bytes(std::span(text.data(), text.size())), seed).low;
}

// Doubling lengths first, so that short system prompts are told apart, then even steps. The last block is cut short so
// that whole short prompts have a hash as well.
void PrefixHashes::add_text(std::string_view text) {
  text = text.substr(0, kPrefixMaxBytes);
  std::uint64_t parent = 0;
  std::size_t at = 0, step = kFirstBlockBytes;
  while (at < text.size() && count < kPrefixMaxBlocks) {
    const std::size_t size = std::min(step, text.size() - at);
    parent = hash_text(text.substr(at, size), parent);
    at += size;
    hashes[count] = parent;
    lengths[count] = static_cast<std::uint32_t>(at);
    ++count;
    step = std::min(at, kLargestBlockBytes);
  }
}

std::int64_t RequestPeek::cost_tokens() const {
  const std::int64_t reply = max_tokens > 0 ? std::min(max_tokens, kDefaultReplyTokens * 4) : kDefaultReplyTokens;
  return static_cast<std::int64_t>(prompt_bytes / kBytesPerToken) + reply * choices;
}

Result<RequestPeek> peek_request(std::string& body) {
  RequestPeek peek;
  bool any = false;
  HP_TRY_VOID(visit_members(body, [&](std::string_view key, std::string_view raw) {
    any = true;
    take(peek, key, raw);
  }));
  peek.choices = std::clamp<std::int64_t>(peek.choices * peek.prompts, 1, kMaxChoices);
  peek.empty_object = !any;
  peek.splice_at = body.rfind('}');  // the parser saw one object and nothing after it
  return peek;
}

}  // namespace hp::gateway
