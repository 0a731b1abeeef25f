#include "gateway/stream_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "base/json.h"
#include "base/text.h"
#include "gateway/request_peek.h"

namespace hp::gateway {
namespace {

constexpr std::size_t kIdDigits = 32, kCreatedDigits = 8, kRandomHighDigits = 8, kWeightsDigits = 8;
constexpr std::uint16_t kManyTokens = std::numeric_limits<std::uint16_t>::max();

Result<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty())
    return fail(ErrorCode::invalid_argument, "expected a number in an event id, found '{}'", text.substr(0, 32));
  return value;
}

bool is_hex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

std::string make_stream_id(std::int64_t created, std::uint64_t random_high, std::uint64_t random_low) {
  std::string id;
  id.reserve(kIdDigits);
  append_hex(id, static_cast<std::uint64_t>(created), kCreatedDigits);
  append_hex(id, random_high, kRandomHighDigits);
  append_hex(id, random_low);
  return id;
}

bool valid_stream_id(std::string_view id) {
  return id.size() == kIdDigits && is_hex(id);
}

std::string weights_tag(std::string_view identity) {
  return identity.empty() ? std::string() : fmt::format("{:08x}", static_cast<std::uint32_t>(hash_text(identity)));
}

bool valid_weights(std::string_view tag) {
  return tag.size() == kWeightsDigits && is_hex(tag);
}

std::int64_t stream_created(std::string_view id) {
  std::uint32_t created = 0;
  std::from_chars(id.data(), id.data() + std::min(id.size(), kCreatedDigits), created, 16);
  return created;
}

std::uint64_t stream_seed(std::string_view id) {
  return hash_text(id, 0x5eed) >> 1;  // 63 bits: every JSON reader keeps it
}

Result<EventPosition> parse_event_id(std::string_view id) {
  EventPosition position;
  const auto colon = id.find(':');
  if (colon == std::string_view::npos || !valid_stream_id(id.substr(0, colon)))
    return fail(ErrorCode::invalid_argument, "an event id is '<stream>:<number>', found '{}'", id.substr(0, 64));
  position.stream = id.substr(0, colon);
  std::string_view rest = id.substr(colon + 1);
  const auto second = rest.find(':');
  HP_TRY(position.seq, number(rest.substr(0, second)));
  if (second == std::string_view::npos) return position;
  rest.remove_prefix(second + 1);
  if (const auto third = rest.find(':'); third != std::string_view::npos) {
    position.weights = rest.substr(third + 1);
    if (!valid_weights(position.weights))
      return fail(ErrorCode::invalid_argument, "an event id ends with {} hex digits of its weights, found '{}'",
                  kWeightsDigits, position.weights.substr(0, 32));
    rest = rest.substr(0, third);
  }
  while (!rest.empty()) {
    const auto dot = rest.find('.');
    HP_TRY(const std::uint64_t count, number(rest.substr(0, dot)));
    if (position.per_choice.size() >= kMaxChoices)
      return fail(ErrorCode::invalid_argument, "an event id names more than {} choices", kMaxChoices);
    position.per_choice.push_back(count);
    rest.remove_prefix(dot == std::string_view::npos ? rest.size() : dot + 1);
  }
  return position;
}

StreamRecord::Choice& StreamRecord::choice(std::size_t index) {
  if (index >= choices_.size()) choices_.resize(index + 1);
  return choices_[index];
}

StreamRecord::Verdict StreamRecord::pass(std::uint64_t& to_skip) {
  if (to_skip > 0) {
    --to_skip;
    return Verdict::drop;
  }
  ++next_seq_;
  return Verdict::forward;
}

StreamRecord::Verdict StreamRecord::take_usage() {
  if (std::exchange(usage_sent_, true) || std::exchange(skip_usage_, false)) return Verdict::drop;
  return pass(choice(0).to_skip);
}

StreamRecord::Verdict StreamRecord::take(const CutChunk& chunk) {
  if (chunk.usage && !chunk.entry) return take_usage();
  if (!chunk.entry) return Verdict::broken;
  const JournalEntry& entry = *chunk.entry;
  if (entry.prompt_tokens) prompt_tokens_ = *entry.prompt_tokens;
  Choice& c = choice(entry.choice);
  if (entry.index > c.tokens.size() || c.tokens.size() + entry.tokens.size() > kMaxJournalTokens)
    return Verdict::broken;
  if (entry.index < c.tokens.size()) {  // said before: the same again is harmless, anything else is not this stream
    const auto from = c.tokens.begin() + static_cast<std::ptrdiff_t>(entry.index);
    const auto known = static_cast<std::size_t>(c.tokens.end() - from);
    const bool same = entry.tokens.size() <= known && std::equal(entry.tokens.begin(), entry.tokens.end(), from);
    return same ? Verdict::drop : Verdict::broken;
  }
  c.tokens.insert(c.tokens.end(), entry.tokens.begin(), entry.tokens.end());
  if (chunk.usage) return take_usage();
  if (chunk.empty) return Verdict::drop;
  c.started = true;
  c.marks.push_back(static_cast<std::uint16_t>(std::min<std::uint64_t>(c.tokens.size() - c.marked, kManyTokens)));
  c.marked = c.tokens.size();
  if (!chunk.finish_reason.empty()) c.finish_reason = chunk.finish_reason;
  return pass(c.to_skip);
}

void StreamRecord::append_event_id(std::string& out) const {
  out.append("id: ").append(id_).append(":");
  append_number(out, next_seq_ - 1);
  if (wanted_ > 1)
    for (std::size_t i = 0; i < choices_.size(); ++i)
      fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? ':' : '.',
                     choices_[i].marks.size() + choices_[i].to_skip);
  if (!weights_.empty()) out.append(wanted_ > 1 ? ":" : "::").append(weights_);
  out += '\n';
}

std::string_view StreamRecord::bound_to() const {
  const bool begun = std::ranges::any_of(choices_, [](const Choice& c) { return !c.tokens.empty() || c.to_skip > 0; });
  return begun ? std::string_view(weights_) : std::string_view();
}

std::string StreamRecord::resume_tail(bool empty_object) const {
  std::string out;
  JsonWriter json(out);
  bool any = false;
  json.begin_object().key("choices").begin_array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    const Choice& c = choices_[i];
    if (!c.started && c.tokens.empty()) continue;
    any = true;
    json.begin_object().member("index", static_cast<std::int64_t>(i)).key("token_ids").begin_array();
    for (const TokenId token : c.tokens) json.value(static_cast<std::int64_t>(token));
    json.end_array().key("finish_reason");
    if (c.finish_reason.empty()) {
      json.null();
    } else {
      json.value(std::string_view(c.finish_reason));
    }
    json.end_object();
  }
  json.end_array().end_object();
  if (!any) return "}";
  return fmt::format("{}\"homeport_resume\":{}}}", empty_object ? "" : ",", out);
}

bool StreamRecord::rewind(const EventPosition& position) {
  if (other_weights(position)) return false;
  std::vector<std::uint64_t> counts = position.per_choice;
  if (counts.empty()) counts.push_back(std::min<std::uint64_t>(position.seq + 1, choice(0).marks.size()));
  counts.resize(std::max(counts.size(), choices_.size()));
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const Choice& c = choice(i);
    if (counts[i] > c.marks.size() || c.to_skip > 0 || std::ranges::count(c.marks, kManyTokens) > 0) return false;
  }
  const auto read = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  if (position.seq + 1 > read + (usage_sent_ ? 1 : 0)) return false;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    Choice& c = choices_[i];
    if (counts[i] == c.marks.size()) continue;
    c.marks.resize(counts[i]);
    c.marked = std::accumulate(c.marks.begin(), c.marks.end(), std::uint64_t{0});
    c.tokens.resize(c.marked);
    c.finish_reason.clear();
    c.started = counts[i] > 0;
  }
  usage_sent_ = usage_sent_ && position.seq + 1 > read;
  next_seq_ = position.seq + 1;
  return true;
}

void StreamRecord::restart() {
  choices_.clear();
  weights_.clear();
  next_seq_ = 0;
  usage_sent_ = skip_usage_ = false;
}

void StreamRecord::skip_to(const EventPosition& position) {
  choices_.clear();
  weights_ = position.weights;
  next_seq_ = position.seq + 1;
  if (position.per_choice.empty()) {
    choice(0).to_skip = position.seq + 1;
    return;
  }
  for (std::size_t i = 0; i < position.per_choice.size(); ++i) choice(i).to_skip = position.per_choice[i];
  skip_usage_ =
      position.seq + 1 > std::accumulate(position.per_choice.begin(), position.per_choice.end(), std::uint64_t{0});
}

std::uint64_t StreamRecord::tokens() const {
  std::uint64_t sum = 0;
  for (const Choice& c : choices_) sum += c.tokens.size();
  return sum;
}

bool StreamRecord::complete(bool with_usage) const {
  return choices_.size() >= wanted_ && (usage_sent_ || !with_usage) &&
         std::ranges::all_of(choices_, [](const Choice& c) { return !c.finish_reason.empty(); });
}

std::size_t StreamRecord::bytes() const {
  std::size_t sum = sizeof *this;
  for (const Choice& c : choices_)
    sum += sizeof c + c.tokens.capacity() * sizeof(TokenId) + c.marks.capacity() * sizeof(std::uint16_t);
  return sum;
}

}  // namespace hp::gateway
