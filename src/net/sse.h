// Server-sent events: writing one event, and a parser that takes bytes in any grouping.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace hp::net {

/// Appends "id: …\n" (when not empty), "data: …\n\n"; newlines in data become further data lines.
void append_sse(std::string& out, std::string_view data, std::string_view id = {});

struct SseEvent {
  std::string id, event, data;
};

class SseParser {
 public:
  void push(std::string_view bytes, const std::function<void(const SseEvent&)>& on_event);

 private:
  std::string line_;
  SseEvent event_;
  bool has_data_ = false, last_was_cr_ = false;
};

}  // namespace hp::net
