#include "gateway/event_cutter.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "gateway/limits.h"

namespace hp::gateway {
namespace {

constexpr std::string_view kMember = ",\"homeport\":{", kChoices = "\"choices\":[";

// One event's lines, without the empty line that ends it.
bool deliver(std::string_view event, const EventCutter::Sink& sink) {
  std::string joined;
  std::string_view data;
  int data_lines = 0;
  while (!event.empty()) {
    const auto end = event.find('\n');
    std::string_view line = event.substr(0, end);
    event.remove_prefix(end == std::string_view::npos ? event.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with(':')) {
      line.remove_prefix(line.starts_with(": ") ? 2 : 1);
      if (sink.on_comment && !sink.on_comment(line)) return false;
    } else if (line.starts_with("data:")) {
      line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
      if (++data_lines == 1) {
        data = line;
      } else {
        if (data_lines == 2) joined = data;
        joined.append("\n").append(line);
        data = joined;
      }
    }
  }
  return data_lines == 0 || !sink.on_data || sink.on_data(data);
}

struct Reader {
  std::string_view text;
  bool ok = true;

  bool take(std::string_view token) {
    if (!text.starts_with(token)) return false;
    text.remove_prefix(token.size());
    return true;
  }
  void expect(std::string_view token) { ok = ok && take(token); }
  template <typename Int>
  Int number() {
    Int value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) {
      ok = false;
    } else {
      text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    }
    return value;
  }
};

// {"choice":0,"index":17,"token_ids":[12,99],"seed":5}
Result<JournalEntry> read_entry(std::string_view member) {
  JournalEntry entry;
  Reader in{member};
  in.expect("{\"choice\":");
  entry.choice = in.number<std::uint32_t>();
  in.expect(",\"index\":");
  entry.index = in.number<std::uint64_t>();
  in.expect(",\"token_ids\":[");
  if (in.ok && !in.text.starts_with(']')) {
    do entry.tokens.push_back(in.number<TokenId>());
    while (in.ok && in.take(","));
  }
  in.expect("]");
  if (in.ok && in.take(",\"seed\":")) entry.seed = in.number<std::uint64_t>();
  if (in.ok && in.take(",\"prompt_tokens\":")) entry.prompt_tokens = in.number<std::uint64_t>();
  in.expect("}}");
  if (!in.ok || !in.text.empty() || entry.choice >= kMaxChoices)
    return fail(ErrorCode::corrupt_data, "expected {}, found '{}'",
                R"({"choice":c,"index":i,"token_ids":[…]} as the chunk's last member)", member.substr(0, 120));
  return entry;
}

// Faster than string_view's own search, which stops at every quote.
std::size_t find(std::string_view text, std::string_view token) {
  const void* at = ::memmem(text.data(), text.size(), token.data(), token.size());
  return at == nullptr ? std::string_view::npos : static_cast<std::size_t>(static_cast<const char*>(at) - text.data());
}

bool has(std::string_view text, std::string_view token) {
  return find(text, token) != std::string_view::npos;
}

/// What follows the last `token`; no data: there is none.
std::string_view after_last(std::string_view text, std::string_view token) {
  std::string_view rest;
  for (auto at = find(text, token); at != std::string_view::npos; at = find(text, token)) {
    text.remove_prefix(at + token.size());
    rest = text;
  }
  return rest;
}

}  // namespace

Status EventCutter::push(std::string_view bytes, const Sink& sink) {
  std::string whole;
  if (!partial_.empty()) {
    whole = std::move(partial_);
    partial_ = {};
    whole += bytes;
    bytes = whole;
  }
  while (!bytes.empty()) {
    // The empty line that ends an event: "\n\n", or "\n\r\n" from servers that end lines with CR LF.
    std::size_t end = std::string_view::npos, skip = 0;
    for (auto at = bytes.find('\n'); at != std::string_view::npos; at = bytes.find('\n', at + 1)) {
      const auto rest = bytes.substr(at + 1);
      if (!rest.starts_with('\n') && !rest.starts_with("\r\n")) continue;
      end = at;
      skip = rest.front() == '\n' ? 2 : 3;
      break;
    }
    if (end == std::string_view::npos) break;
    const std::string_view event = bytes.substr(0, end);
    bytes.remove_prefix(end + skip);
    if (!deliver(event, sink)) return {};
  }
  if (bytes.size() > kMaxEventBytes)
    return fail(ErrorCode::corrupt_data, "one event of the stream is larger than {} bytes", kMaxEventBytes);
  if (!bytes.empty()) partial_ = bytes;
  return {};
}

Result<CutChunk> cut_chunk(std::string_view data) {
  if (data.size() < 2 || data.front() != '{' || data.back() != '}')
    return fail(ErrorCode::corrupt_data, "an event's data is no JSON object: '{}'", data.substr(0, 80));
  CutChunk chunk{.body = data.substr(0, data.size() - 1), .entry = {}, .finish_reason = {}};
  // Inside a JSON string every quote is escaped: each text looked for can only be a member. All of them are the list
  // of choices or come after it, and the last one is the node's.
  const auto choices = find(data, kChoices);
  const std::size_t head = choices == std::string_view::npos ? 0 : choices;
  if (const std::string_view entry = after_last(data.substr(head), kMember); entry.data() != nullptr) {
    HP_TRY(chunk.entry, read_entry({entry.data() - 1, entry.size() + 1}));
    chunk.body = data.substr(0, data.size() - entry.size() - kMember.size());
  }
  const std::string_view tail = chunk.body.substr(std::min(head, chunk.body.size()));
  const std::string_view reason = after_last(tail, "\"finish_reason\":\"");
  chunk.finish_reason = reason.substr(0, reason.find('"'));
  chunk.usage = tail.starts_with("\"choices\":[]");
  chunk.error = data.starts_with("{\"error\":");
  chunk.empty = chunk.entry.has_value() && chunk.finish_reason.empty() &&
                (has(tail, "\"delta\":{}") || has(tail, "\"text\":\"\"")) && !has(tail, "\"logprobs\":{");
  return chunk;
}

}  // namespace hp::gateway
