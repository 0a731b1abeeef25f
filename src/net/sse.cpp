#include "net/sse.h"

#include <utility>

namespace hp::net {

void append_sse(std::string& out, std::string_view data, std::string_view id) {
  if (!id.empty()) out.append("id: ").append(id).append("\n");
  for (;;) {
    const auto end = data.find_first_of("\r\n");
    out.append("data: ").append(data.substr(0, end)).append("\n");
    if (end == std::string_view::npos) break;
    data.remove_prefix(end + (data.substr(end, 2) == "\r\n" ? 2 : 1));
  }
  out.append("\n");
}

// WHATWG HTML, 9.2.6 "Interpreting an event stream"; `retry` is not needed here.
void SseParser::push(std::string_view bytes, const std::function<void(const SseEvent&)>& on_event) {
  const auto end_line = [&] {
    if (line_.empty()) {
      if (has_data_) on_event(event_);
      event_.data.clear();
      event_.event.clear();
      has_data_ = false;
      return;
    }
    const std::string_view line = line_;
    const auto colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (name == "data") {
      if (has_data_) event_.data += '\n';
      event_.data.append(value);
      has_data_ = true;
    } else if (name == "event") {
      event_.event = value;
    } else if (name == "id") {
      event_.id = value;
    }
    line_.clear();
  };
  for (const char c : bytes) {
    const bool after_cr = std::exchange(last_was_cr_, c == '\r');
    if (c == '\n' && after_cr) continue;
    if (c == '\n' || c == '\r')
      end_line();
    else
      line_ += c;
  }
}

}  // namespace hp::net
