// Quoting and repairing text for JSON: apart from json.cpp because it is the hot path of every streamed chunk.
#include "base/json.h"
#include "base/utf8.h"

namespace hp {
namespace {

void append_escape(std::string& out, char c) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  const auto byte = static_cast<unsigned char>(c);
  out += "\\u00";
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t i = 0;
  while (i < text.size()) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x80) {
      if (byte >= 0x20 && byte != '"' && byte != '\\') {
        out += text[i];
      } else {
        append_escape(out, text[i]);
      }
      ++i;
      continue;
    }
    const Utf8Step step = utf8_step(text.substr(i));
    if (step.valid) {
      out += text.substr(i, step.bytes);
    } else {
      out += "\xEF\xBF\xBD";
    }
    i += step.bytes;
  }
  out += '"';
}

}  // namespace hp
