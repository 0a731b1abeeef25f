#include "net/http.h"

namespace hp::net {

bool breaks_line(std::string_view text) {
  constexpr auto kNone = std::string_view::npos;
  return text.find('\n') != kNone || text.find('\r') != kNone || text.find('\0') != kNone;
}

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

}  // namespace hp::net
