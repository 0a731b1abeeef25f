// Reads the head of an HTTP/1 request: RFC 9112, strictly. What two readers could understand differently is an error:
// that is how requests are smuggled.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace hp::net {

struct RequestHead {
  HttpRequest request;  ///< all but its body and peer
  std::optional<std::uint64_t> length;
  bool http_1_1 = true, chunked = false, keep_alive = true, expects_continue = false;
};

/// `head`: up to its empty line, with it. Errors say what is wrong, for a 400.
Result<RequestHead> parse_request_head(std::string_view head);

/// Of a head, or a part of one from its beginning: no line ends with a bare line feed, none is folded.
Status check_lines(std::string_view head);

}  // namespace hp::net
