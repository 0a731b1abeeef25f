// The record as lines of JSON, one per batch of news, for another gateway to read:
//   {"v":2,"w":"0a1b2c3d","p":12,"u":false,
//    "c":[[choice, first token, [ids], first event, [tokens per event], "finish reason"], …]}
// "w" is the weights' tag, once, when it is known. Version 1 had neither "v" nor "w": whose tokens its lines hold is
// not known, so none of them is taken.
#include <algorithm>
#include <limits>
#include <numeric>

#include "base/json.h"
#include "gateway/stream_record.h"

namespace hp::gateway {
namespace {
constexpr auto kManyTokens = std::numeric_limits<std::uint16_t>::max();
constexpr std::int64_t kVersion = 2;

// A list of numbers from 0 to `most`, appended; false: it is none.
template <typename Number>
bool append_numbers(const JsonValue& list, std::int64_t most, std::vector<Number>& out) {
  if (list.as_array() == nullptr) return false;
  for (const JsonValue& item : *list.as_array()) {
    const auto number = item.is_integer() ? item.as_int() : std::nullopt;
    if (!number || *number < 0 || *number > most) return false;
    out.push_back(static_cast<Number>(*number));
  }
  return true;
}
}  // namespace

std::string StreamRecord::journal_since(JournalMark& mark) const {
  mark.choices.resize(std::max(mark.choices.size(), choices_.size()));
  std::string line;
  JsonWriter json(line);
  const bool weights = !mark.weights && !weights_.empty();
  bool any = weights || mark.prompt_tokens != prompt_tokens_ || mark.usage != usage_sent_;
  json.begin_object().member("v", kVersion);
  if (weights) json.member("w", std::string_view(weights_));
  json.member("p", prompt_tokens_).member("u", usage_sent_).key("c").begin_array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    const Choice& c = choices_[i];
    auto& [tokens, events] = mark.choices[i];
    if (tokens == c.tokens.size() && events == c.marks.size()) continue;
    any = true;
    json.begin_array().value(static_cast<std::uint64_t>(i)).value(static_cast<std::uint64_t>(tokens)).begin_array();
    for (; tokens < c.tokens.size(); ++tokens) json.value(static_cast<std::int64_t>(c.tokens[tokens]));
    json.end_array().value(static_cast<std::uint64_t>(events)).begin_array();
    for (; events < c.marks.size(); ++events) json.value(static_cast<std::uint64_t>(c.marks[events]));
    json.end_array().value(std::string_view(c.finish_reason)).end_array();
  }
  json.end_array().end_object();
  mark.prompt_tokens = prompt_tokens_;
  mark.usage = usage_sent_;
  mark.weights = mark.weights || weights;
  return any ? line + "\n" : std::string();
}

bool StreamRecord::replay_choice(const JsonValue& entry) {
  const auto* part = entry.as_array();
  if (part == nullptr || part->size() != 6) return false;
  const auto index = (*part)[0].as_int(), tokens_at = (*part)[1].as_int(), events_at = (*part)[3].as_int();
  const std::string* finish = (*part)[5].as_string();
  if (!index || *index < 0 || *index >= static_cast<std::int64_t>(wanted_) || finish == nullptr) return false;
  Choice& c = choice(static_cast<std::size_t>(*index));
  if (tokens_at != static_cast<std::int64_t>(c.tokens.size()) || events_at != static_cast<std::int64_t>(c.marks.size()))
    return false;
  Choice longer = c;
  if (!append_numbers((*part)[2], std::numeric_limits<TokenId>::max(), longer.tokens) ||
      !append_numbers((*part)[4], kManyTokens, longer.marks) || longer.tokens.size() > kMaxJournalTokens)
    return false;
  longer.marked = std::accumulate(longer.marks.begin(), longer.marks.end(), std::uint64_t{0});
  if (longer.marked > longer.tokens.size()) return false;
  longer.started = !longer.marks.empty();
  longer.finish_reason = *finish;
  c = std::move(longer);
  return true;
}

void StreamRecord::replay_journal(std::string_view lines) {
  while (!lines.empty()) {
    const auto end = lines.find('\n');
    if (end == std::string_view::npos) return;
    const auto line = JsonValue::parse(lines.substr(0, end));
    lines.remove_prefix(end + 1);
    const JsonValue* version = line ? line->find("v") : nullptr;
    const JsonValue* choices = line ? line->find("c") : nullptr;
    if (version == nullptr || version->as_int() != kVersion) return;
    if (choices == nullptr || choices->as_array() == nullptr) return;
    const JsonValue* weights = line->find("w");
    if (weights != nullptr && (weights->as_string() == nullptr || !valid_weights(*weights->as_string()))) return;
    if (weights != nullptr) weights_ = *weights->as_string();
    for (const JsonValue& entry : *choices->as_array())
      if (!replay_choice(entry)) return;
    const JsonValue* prompt = line->find("p");
    if (prompt != nullptr)
      prompt_tokens_ = static_cast<std::uint64_t>(std::max<std::int64_t>(0, prompt->as_int().value_or(0)));
    const JsonValue* usage = line->find("u");
    usage_sent_ = usage != nullptr && usage->as_bool().value_or(false);
  }
}

bool StreamRecord::catch_up(const EventPosition& position) {
  if (other_weights(position)) return false;
  if (!position.weights.empty()) weights_ = position.weights;
  std::vector<std::uint64_t> counts = position.per_choice;
  std::uint64_t beyond = 0;  // of a single choice: events that may include the usage
  if (counts.empty()) {
    const std::uint64_t known = choice(0).marks.size();
    counts.push_back(std::min(position.seq + 1, known));
    beyond = position.seq + 1 - counts[0];
  }
  if (counts.size() > wanted_) return false;
  counts.resize(std::max(counts.size(), choices_.size()));
  const auto read = std::accumulate(counts.begin(), counts.end(), beyond);
  if (position.seq + 1 > read + 1) return false;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    Choice& c = choice(i);
    if (c.to_skip > 0 || std::ranges::count(c.marks, kManyTokens) > 0) return false;
    if (counts[i] > c.marks.size() && !c.finish_reason.empty()) return false;
  }
  const bool single_done = beyond > 0 && !choice(0).finish_reason.empty();
  if (single_done && beyond > 1) return false;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    Choice& c = choices_[i];
    if (counts[i] > c.marks.size()) {
      c.to_skip = counts[i] - c.marks.size();
    } else if (counts[i] < c.marks.size()) {
      c.marks.resize(counts[i]);
      c.marked = std::accumulate(c.marks.begin(), c.marks.end(), std::uint64_t{0});
      c.tokens.resize(c.marked);
      c.finish_reason.clear();
      c.started = counts[i] > 0;
    }
  }
  const bool usage_read = single_done || position.seq + 1 > read;
  usage_sent_ = usage_read && std::ranges::all_of(choices_, [](const Choice& c) { return !c.finish_reason.empty(); });
  skip_usage_ = usage_read && !usage_sent_;
  if (!single_done) choice(0).to_skip += beyond;
  next_seq_ = position.seq + 1;
  return true;
}

}  // namespace hp::gateway
