#include "node/journal.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/json.h"
#include "node/limits.h"

namespace hp {
namespace {

constexpr std::string_view kResumeMember = "homeport_resume";

template <typename Int>
Result<std::optional<Int>> read_number_header(const net::HttpRequest& request, std::string_view name) {
  const std::string_view text = request.header(name);
  if (text.empty()) return std::optional<Int>();
  Int value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return fail(Error{.code = ErrorCode::invalid_argument,
                      .message = fmt::format("header {}: expected a whole number, found '{}'", name, text),
                      .where = std::string(name)});
  return std::optional<Int>(value);
}

bool is_id_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

tl::unexpected<Error> bad_resume(std::string_view message) {
  return fail(Error{.code = ErrorCode::invalid_argument,
                    .message = fmt::format("'{}': {}", kResumeMember, message),
                    .where = std::string(kResumeMember)});
}

Result<ResumedChoice> read_choice(const JsonValue& item) {
  ResumedChoice choice;
  const JsonValue* index = item.find("index");
  const JsonValue* tokens = item.find("token_ids");
  const JsonValue* finish = item.find("finish_reason");
  const auto number = index != nullptr ? index->as_int() : std::nullopt;
  if (!number || *number < 0 || *number >= kMaxAnswerChoices) return bad_resume("every choice needs its index");
  choice.index = static_cast<std::int32_t>(*number);
  if (tokens == nullptr || tokens->as_array() == nullptr) return bad_resume("every choice needs token_ids");
  for (const JsonValue& t : *tokens->as_array()) {
    const auto id = t.as_int();
    if (!id || *id < 0 || *id > INT32_MAX) return bad_resume("token_ids holds something that is no token id");
    choice.tokens.push_back(static_cast<TokenId>(*id));
  }
  choice.finished = finish != nullptr && !finish->is_null();
  return choice;
}

}  // namespace

Result<JournalHeaders> read_journal_headers(const net::HttpRequest& request) {
  JournalHeaders out;
  out.chunks = request.header("homeport-journal") == "1";
  const std::string_view stream = request.header("homeport-stream");
  if (stream.size() > kMaxStreamIdBytes || !std::ranges::all_of(stream, is_id_char))
    return fail(Error{.code = ErrorCode::invalid_argument,
                      .message = fmt::format("header homeport-stream: expected at most {} letters, digits, - and _",
                                             kMaxStreamIdBytes),
                      .where = "homeport-stream"});
  out.stream = stream;
  HP_TRY(out.created, read_number_header<std::int64_t>(request, "homeport-created"));
  HP_TRY(out.seed, read_number_header<std::uint64_t>(request, "homeport-seed"));
  return out;
}

Result<std::vector<ResumedChoice>> read_resume(std::string_view body) {
  std::vector<ResumedChoice> out;
  if (body.find(kResumeMember) == std::string_view::npos) return out;
  const auto parsed = JsonValue::parse(body);
  if (!parsed) return bad_resume(parsed.error().message);
  const JsonValue* member = parsed->find(kResumeMember);
  if (member == nullptr) return out;
  const JsonValue* choices = member->find("choices");
  if (choices == nullptr || choices->as_array() == nullptr) return bad_resume("expected an array 'choices'");
  for (const JsonValue& item : *choices->as_array()) {
    HP_TRY(ResumedChoice choice, read_choice(item));
    if (std::ranges::any_of(out, [&](const ResumedChoice& seen) { return seen.index == choice.index; }))
      return bad_resume(fmt::format("choice {} stands there twice", choice.index));
    out.push_back(std::move(choice));
  }
  return out;
}

void append_journal(std::string& chunk, const JournalEntry& entry) {
  HP_CHECK(chunk.ends_with('}'), "a chunk is a JSON object");
  chunk.pop_back();
  fmt::format_to(std::back_inserter(chunk), R"(,"homeport":{{"choice":{},"index":{},"token_ids":[{}])", entry.choice,
                 entry.index, fmt::join(entry.tokens, ","));
  if (entry.first)
    fmt::format_to(std::back_inserter(chunk), R"(,"seed":{},"prompt_tokens":{})", entry.seed, entry.prompt_tokens);
  chunk += "}}";
}

}  // namespace hp
