#include "text/prompt_pieces.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"

namespace hp {
namespace {

// Spellings that reference templates print and that are added tokens in at least one family's vocabulary. In a
// vocabulary without one, encode_chat takes it as plain text, as the reference does.
constexpr std::array<std::string_view, 21> kMarkers = {"<think>",
                                                       "</think>",
                                                       "<tool_call>",
                                                       "</tool_call>",
                                                       "<tool_response>",
                                                       "</tool_response>",
                                                       "<｜User｜>",
                                                       "<｜Assistant｜>",
                                                       "<｜tool▁calls▁begin｜>",
                                                       "<｜tool▁calls▁end｜>",
                                                       "<｜tool▁call▁begin｜>",
                                                       "<｜tool▁call▁end｜>",
                                                       "<｜tool▁sep｜>",
                                                       "<｜tool▁outputs▁begin｜>",
                                                       "<｜tool▁outputs▁end｜>",
                                                       "<｜tool▁output▁begin｜>",
                                                       "<｜tool▁output▁end｜>",
                                                       "<｜begin▁of▁sentence｜>",
                                                       "<｜end▁of▁sentence｜>",
                                                       "<|im_start|>",
                                                       "<|im_end|>"};

void write_python(std::string& out, const JsonValue& v) {
  if (const auto* object = v.as_object()) {
    out += '{';
    for (std::size_t i = 0; i < object->size(); ++i) {
      if (i > 0) out += ", ";
      append_json_string(out, (*object)[i].first);
      out += ": ";
      write_python(out, (*object)[i].second);
    }
    out += '}';
  } else if (const auto* array = v.as_array()) {
    out += '[';
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (i > 0) out += ", ";
      write_python(out, (*array)[i]);
    }
    out += ']';
  } else {
    const std::string scalar = v.dump();
    out += scalar;
    // Python keeps a whole float apart from an integer.
    const bool whole_float =
        v.is_number() && !v.is_integer() && scalar.find_first_not_of("-0123456789") == std::string::npos;
    if (whole_float) out += ".0";
  }
}

}  // namespace

PromptPieces& PromptPieces::special(std::string_view spelling) {
  pieces_.push_back({.literal = true, .text = std::string(spelling)});
  return *this;
}

PromptPieces& PromptPieces::text(std::string_view text) {
  if (!text.empty()) pieces_.push_back({.literal = false, .text = std::string(text)});
  return *this;
}

PromptPieces& PromptPieces::markup(std::string_view own) {
  std::size_t start = 0;
  for (std::size_t at = own.find('<'); at != std::string_view::npos; at = own.find('<', at)) {
    const auto* marker = std::find_if(kMarkers.begin(), kMarkers.end(),
                                      [&](std::string_view m) { return own.substr(at).starts_with(m); });
    if (marker == kMarkers.end()) {
      ++at;
      continue;
    }
    text(own.substr(start, at - start)).special(*marker);
    start = at += marker->size();
  }
  return text(own.substr(start));
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\v\f";
  const std::size_t first = text.find_first_not_of(kBlank);
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string python_json(std::string_view json) {
  std::string out;
  const auto parsed = JsonValue::parse(json);
  if (parsed) {
    write_python(out, *parsed);
  } else {
    append_json_string(out, json);
  }
  return out;
}

}  // namespace hp
