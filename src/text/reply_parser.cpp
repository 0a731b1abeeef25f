#include "text/reply_parser.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/json.h"
#include "text/limits.h"
#include "text/prompt_pieces.h"

namespace hp {
namespace {

constexpr std::string_view kThink = "<think>", kThinkEnd = "</think>";
constexpr std::string_view kCalls = "<｜tool▁calls▁begin｜>", kCallsEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kCall = "<｜tool▁call▁begin｜>", kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kSep = "<｜tool▁sep｜>";
constexpr std::string_view kQwenCall = "<tool_call>", kQwenCallEnd = "</tool_call>";
constexpr std::array<std::string_view, 9> kAllMarkers = {kThink,   kThinkEnd, kCalls,    kCallsEnd,   kCall,
                                                         kCallEnd, kSep,      kQwenCall, kQwenCallEnd};

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

std::size_t blanks(std::string_view text) {
  std::size_t n = 0;
  while (n < text.size() && is_blank(text[n])) ++n;
  return n;
}

std::string_view open_marker(ToolSyntax tools) {
  return tools == ToolSyntax::qwen ? kQwenCall : kCalls;
}

}  // namespace

ReplyStyle reply_style(ChatFamily family, const Conversation& conversation) {
  return {.tools = conversation.tools.empty() ? ToolSyntax::none : tool_syntax(family),
          .reasons = may_reason(family),
          .opens_in_reasoning = opens_in_reasoning(family, conversation)};
}

std::span<const std::string_view> ReplyParser::markers() {
  return kAllMarkers;
}

ReplyParser::ReplyParser(ReplyStyle style)
    : style_(style), state_(style.opens_in_reasoning ? State::reasoning : State::start) {}

void ReplyParser::push(std::string_view text, ReplyDelta& out) {
  pending_ += text;
  while (!pending_.empty() && step(out)) {
  }
}

void ReplyParser::finish(ReplyDelta& out) {
  switch (state_) {
    case State::reasoning:
      out.reasoning += pending_;
      break;
    case State::start:
    case State::content:
    case State::between:
    case State::json_close:
      if (state_ == State::between || state_ == State::json_close) pending_.erase(0, blanks(pending_));
      out.content += pending_;
      break;
    case State::head:
      out.content += std::string(kCall) + pending_;
      break;
    case State::fence:
    case State::arguments:
      add_arguments(pending_, out);
      break;
    case State::json:
      if (!json_.named) out.content += std::string(kQwenCall) + json_.raw;
      if (json_.named && json_.key == "\"arguments\"" && json_.value.starts_with('"')) add_arguments(json_.value, out);
      break;
  }
  pending_.clear();
}

bool ReplyParser::step(ReplyDelta& out) {
  switch (state_) {
    case State::reasoning:
      return step_reasoning(out);
    case State::start:
      return step_start();
    case State::content:
      return step_content(out);
    case State::between:
    case State::json_close:
      return step_between(out);
    case State::head:
      return step_head(out);
    case State::fence:
      return step_fence();
    case State::arguments:
      return step_arguments(out);
    case State::json:
      return step_json(out);
  }
  return false;
}

ReplyParser::Hit ReplyParser::find(std::span<const std::string_view> markers) const {
  Hit best;
  for (std::size_t i = 0; i < markers.size(); ++i) {
    const std::size_t at = pending_.find(markers[i]);
    if (at < best.at || (at == best.at && at != std::string::npos && markers[i].size() > best.bytes)) {
      best = {.at = at, .bytes = markers[i].size(), .which = i};
    }
  }
  return best;
}

std::size_t ReplyParser::certain(std::span<const std::string_view> markers) const {
  std::size_t held = 0;
  for (const std::string_view marker : markers) {
    for (std::size_t n = std::min(marker.size() - 1, pending_.size()); n > held; --n) {
      if (std::string_view(pending_).ends_with(marker.substr(0, n))) {
        held = n;
        break;
      }
    }
  }
  return pending_.size() - held;
}

/// Moves `bytes` to `target` but for a run of line breaks at their end, which stays pending, or is dropped with the
/// marker that follows. Only so many are held that a flood of them stays cheap.
void ReplyParser::emit_trimmed(std::string& target, std::size_t bytes, const Hit& hit) {
  std::size_t keep = bytes;
  while (keep > 0 && bytes - keep < text_limits::kHeldLineBreaksMax && pending_[keep - 1] == '\n') --keep;
  target.append(pending_, 0, keep);
  if (keep > 0) fresh_ = false;
  pending_.erase(0, hit.at != std::string::npos ? hit.at + hit.bytes : keep);
}

bool ReplyParser::step_reasoning(ReplyDelta& out) {
  if (fresh_ && pending_[0] == '\n') {
    pending_.erase(0, 1);
    return true;
  }
  static constexpr std::array<std::string_view, 1> kEnds = {kThinkEnd};
  const Hit hit = find(kEnds);
  const bool found = hit.at != std::string::npos;
  emit_trimmed(out.reasoning, found ? hit.at : certain(kEnds), hit);
  if (!found) return false;
  state_ = State::start;
  fresh_ = after_reasoning_ = true;
  return true;
}

/// The beginning of the content: line breaks after reasoning are dropped, a <think> opens reasoning.
bool ReplyParser::step_start() {
  const std::size_t breaks = std::min(pending_.find_first_not_of('\n'), pending_.size());
  const std::string_view rest = std::string_view(pending_).substr(breaks);
  if (after_reasoning_) {
    pending_.erase(0, breaks);
    if (pending_.empty()) return false;
  } else if (style_.reasons && breaks < text_limits::kHeldLineBreaksMax) {
    if (rest.starts_with(kThink)) {
      pending_.erase(0, breaks + kThink.size());
      state_ = State::reasoning;
      return true;
    }
    if (kThink.starts_with(rest)) return false;
  }
  state_ = State::content;
  return true;
}

bool ReplyParser::step_content(ReplyDelta& out) {
  if (style_.tools == ToolSyntax::none) {
    out.content += pending_;
    pending_.clear();
    return false;
  }
  const std::array<std::string_view, 1> opens = {open_marker(style_.tools)};
  const Hit hit = find(opens);
  const bool found = hit.at != std::string::npos;
  emit_trimmed(out.content, found ? hit.at : certain(opens), hit);
  if (!found) return false;
  state_ = style_.tools == ToolSyntax::qwen ? State::json : State::between;
  json_ = {};
  return true;
}

/// Between calls: white space goes, anything else that is no marker is content.
bool ReplyParser::step_between(ReplyDelta& out) {
  const bool qwen = state_ == State::json_close;
  const std::array<std::string_view, 2> ends = {qwen ? kQwenCall : kCall, qwen ? kQwenCallEnd : kCallsEnd};
  const Hit hit = find(ends);
  const bool found = hit.at != std::string::npos;
  const std::size_t bytes = found ? hit.at : certain(ends);
  for (std::size_t i = 0; i < bytes; ++i) {
    if (!is_blank(pending_[i])) out.content += pending_[i];
  }
  pending_.erase(0, found ? hit.at + hit.bytes : bytes);
  if (!found) return false;
  if (hit.which == 1) {
    state_ = State::content;
  } else {
    state_ = qwen ? State::json : State::head;
    json_ = {};
  }
  return true;
}

/// V3: "function", separator, name, line break. V3.1: name, separator. A call without a name is none.
bool ReplyParser::step_head(ReplyDelta& out) {
  static constexpr std::size_t kMax = text_limits::kCallHeadBytesMax;
  static constexpr std::array<std::string_view, 1> kSeps = {kSep};
  const Hit hit = find(kSeps);
  const bool found = hit.at <= kMax;
  if (!found && pending_.size() < kMax + kSep.size()) return false;
  const bool v31 = style_.tools == ToolSyntax::deepseek_v31;
  const std::size_t begin = v31 || !found ? 0 : hit.at + hit.bytes;
  const std::size_t end = v31 ? hit.at : pending_.find('\n', begin);
  if (found && end == std::string::npos && pending_.size() < 2 * kMax) return false;
  if (!found || end >= 2 * kMax) {
    out.content.append(kCall).append(pending_, 0, kMax);
    pending_.erase(0, kMax);
    state_ = State::content;
    return true;
  }
  const std::string used = pending_.substr(0, v31 ? end + kSep.size() : end + 1);
  const std::string_view name = trimmed(std::string_view(used).substr(begin, end - begin));
  pending_.erase(0, used.size());
  if (name.empty()) {
    out.content.append(kCall).append(used);
    state_ = State::content;
    return true;
  }
  begin_call(name, out);
  state_ = State::fence;
  fenced_ = false;
  return true;
}

bool ReplyParser::step_fence() {
  if (const std::size_t skip = blanks(pending_); skip > 0) {
    pending_.erase(0, skip);
    return true;
  }
  static constexpr std::string_view kFence = "```json";
  if (!fenced_ && style_.tools == ToolSyntax::deepseek_v3) {
    const std::string_view rest = pending_;
    if (rest.starts_with(kFence) || (rest.starts_with("```") && !kFence.starts_with(rest.substr(0, kFence.size())))) {
      pending_.erase(0, rest.starts_with(kFence) ? kFence.size() : 3);
      fenced_ = true;
      return true;
    }
    if (kFence.starts_with(rest)) return false;
  }
  state_ = State::arguments;
  return true;
}

bool ReplyParser::step_arguments(ReplyDelta& out) {
  static const std::array<std::string, 4> kFenced = {
      std::string("\n```") + std::string(kCallEnd), std::string("```") + std::string(kCallEnd),
      std::string("\n```\n") + std::string(kCallEnd), std::string("```\n") + std::string(kCallEnd)};
  const std::array<std::string_view, 6> all = {kCallEnd, kCallsEnd, kFenced[0], kFenced[1], kFenced[2], kFenced[3]};
  const std::span<const std::string_view> ends = std::span(all).first(fenced_ ? 6 : 2);
  const Hit hit = find(ends);
  const bool found = hit.at != std::string::npos;
  const std::size_t bytes = found ? hit.at : certain(ends);
  add_arguments(std::string_view(pending_).substr(0, bytes), out);
  pending_.erase(0, found ? hit.at + hit.bytes : bytes);
  if (!found) return false;
  if (!any_arguments_) add_arguments("{}", out);
  state_ = hit.which == 1 ? State::content : State::between;
  return true;
}

void ReplyParser::begin_call(std::string_view name, ReplyDelta& out) {
  out.tool_calls.push_back({.index = calls_, .name = std::string(name), .arguments = {}});
  ++calls_;
  any_arguments_ = false;
}

void ReplyParser::add_arguments(std::string_view text, ReplyDelta& out) {
  if (text.empty()) return;
  any_arguments_ = true;
  if (out.tool_calls.empty() || out.tool_calls.back().index != calls_ - 1) {
    out.tool_calls.push_back({.index = calls_ - 1, .name = {}, .arguments = {}});
  }
  out.tool_calls.back().arguments += text;
}

}  // namespace hp
