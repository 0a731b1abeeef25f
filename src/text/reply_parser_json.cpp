// The part of the reply parser that reads Qwen's calls: one JSON object between <tool_call> and </tool_call>, scanned
// byte by byte so that its arguments stream and a marker inside of a string is no marker.
#include "base/json.h"
#include "text/limits.h"
#include "text/reply_parser.h"

namespace hp {

bool ReplyParser::step_json(ReplyDelta& out) {
  std::size_t used = 0;
  bool fine = true;
  char c = 0;
  while (fine && used < pending_.size() && json_.phase != JsonScan::Phase::done) {
    c = pending_[used++];
    if (!json_.named) json_.raw += c;
    fine = scan(c, out);
  }
  pending_.erase(0, used);
  if (!fine || (json_.phase == JsonScan::Phase::done && !json_.named)) {
    if (json_.named) {
      out.content += c;
    } else {
      out.content.append("<tool_call>").append(json_.raw);
    }
    state_ = State::content;
    return true;
  }
  if (json_.phase != JsonScan::Phase::done) return false;
  if (!any_arguments_) add_arguments("{}", out);
  state_ = State::json_close;
  return true;
}

bool ReplyParser::scan(char c, ReplyDelta& out) {
  using Phase = JsonScan::Phase;
  const bool blank = c == ' ' || c == '\n' || c == '\r' || c == '\t';
  if (json_.raw.size() > text_limits::kToolCallRawBytesMax) return false;
  switch (json_.phase) {
    case Phase::open:
      if (c == '{') json_.phase = Phase::key;
      return c == '{' || blank;
    case Phase::key:
      if (json_.in_string || c == '"') {
        json_.key += c;
        if (json_.in_string && !json_.escaped && c == '"') json_.phase = Phase::colon;
        json_.escaped = json_.in_string && !json_.escaped && c == '\\';
        json_.in_string = json_.phase == Phase::key;
        return true;
      }
      if (c == '}') json_.phase = Phase::done;
      return c == '}' || c == ',' || blank;
    case Phase::colon:
      if (c == ':') json_.phase = Phase::value;
      json_.depth = 0;
      json_.value.clear();
      return c == ':' || blank;
    case Phase::value:
      break;
    case Phase::done:
      return true;
  }
  if (!json_.in_string && json_.depth == 0 && (c == ',' || c == '}')) {
    end_value(out);
    json_.key.clear();
    json_.phase = c == ',' ? Phase::key : Phase::done;
    return true;
  }
  if (!json_.in_string && json_.depth == 0 && blank) return true;
  if (json_.in_string) {
    json_.in_string = json_.escaped || c != '"';
    json_.escaped = !json_.escaped && c == '\\';
  } else if (c == '"') {
    json_.in_string = true;
  } else if (c == '{' || c == '[') {
    ++json_.depth;
  } else if (c == '}' || c == ']') {
    --json_.depth;
  }
  const bool arguments = json_.key == "\"arguments\"" || json_.key == "\"parameters\"";
  if (!arguments || json_.value.starts_with('"') || (json_.value.empty() && c == '"')) {
    json_.value += c;  // the name, a member that we do not know, or arguments written as a JSON string
    return json_.value.size() <= text_limits::kToolCallRawBytesMax;
  }
  json_.value.assign(1, '.');  // not empty and not a string: the value streams
  if (json_.named) {
    add_arguments({&c, 1}, out);
  } else {
    json_.early += c;
  }
  return true;
}

/// A member of the call is complete.
void ReplyParser::end_value(ReplyDelta& out) {
  const bool string = json_.value.starts_with('"');
  const auto text = string ? JsonValue::parse(json_.value) : Result<JsonValue>(JsonValue());
  const std::string* plain = text ? text->as_string() : nullptr;
  if (json_.key == "\"name\"" && plain != nullptr && !plain->empty() && !json_.named) {
    begin_call(*plain, out);
    json_.named = true;
    json_.raw.clear();
    add_arguments(json_.early, out);
    json_.early.clear();
  } else if ((json_.key == "\"arguments\"" || json_.key == "\"parameters\"") && plain != nullptr) {
    if (json_.named) {
      add_arguments(*plain, out);
    } else {
      json_.early += *plain;
    }
  }
}

}  // namespace hp
