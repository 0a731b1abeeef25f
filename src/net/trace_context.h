// W3C Trace Context (https://www.w3.org/TR/trace-context/): the trace that a request belongs to, the client's or a new
// one, on its way to the nodes and into the logs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "net/http.h"

namespace hp::net {

struct TraceContext {
  std::string trace_id;  ///< 32 hex digits
  std::string flags;     ///< 2 hex digits; 01: sampled
  std::string state;     ///< tracestate, passed on as it came; empty without a valid traceparent

  /// The header for one call to a node, which is a span of its own.
  [[nodiscard]] std::string parent(std::uint64_t span_id) const;
};

/// `random`: two words for a trace that begins here.
TraceContext trace_of(const HttpRequest& request, std::uint64_t random_high, std::uint64_t random_low);

}  // namespace hp::net
