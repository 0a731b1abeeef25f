#include "net/trace_context.h"

#include <algorithm>

#include "base/text.h"

namespace hp::net {
namespace {

constexpr std::size_t kMaxStateBytes = 512;  // what section 3.3.1.5 asks to carry at least
constexpr std::size_t kTraceBytes = 32;
constexpr std::size_t kParentBytes = 55;  // 00-<32>-<16>-<2>

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}
bool is_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

// Section 3.2: a later version may have more after the flags, version 00 has not; ff is none.
bool parse_parent(std::string_view header, TraceContext& out) {
  if (header.size() < kParentBytes || header[2] != '-' || header[35] != '-' || header[52] != '-') return false;
  const std::string_view version = header.substr(0, 2), trace = header.substr(3, 32), parent = header.substr(36, 16),
                         flags = header.substr(53, 2);
  if (!is_hex(version) || !is_hex(trace) || !is_hex(parent) || !is_hex(flags) || version == "ff") return false;
  if (header.size() > kParentBytes && (version == "00" || header[kParentBytes] != '-')) return false;
  if (is_zero(trace) || is_zero(parent)) return false;
  out.trace_id = trace;
  out.flags = std::string_view("13579bdf").find(flags[1]) != std::string_view::npos ? "01" : "00";  // sampled or not
  return true;
}

}  // namespace

std::string TraceContext::parent(std::uint64_t span_id) const {
  std::string out;
  out.reserve(kParentBytes);
  out.append("00-").append(trace_id).append("-");
  append_hex(out, span_id == 0 ? 1 : span_id);
  out.append("-").append(flags);
  return out;
}

TraceContext trace_of(const HttpRequest& request, std::uint64_t random_high, std::uint64_t random_low) {
  TraceContext out;
  const auto parents = std::ranges::count(request.headers, "traceparent", &Headers::value_type::first);
  if (parents != 1 || !parse_parent(request.header("traceparent"), out)) {
    out.trace_id.reserve(kTraceBytes);
    append_hex(out.trace_id, random_high);
    append_hex(out.trace_id, random_low | 1);
    out.flags = "01";
    return out;
  }
  for (const auto& [name, value] : request.headers) {
    if (name != "tracestate") continue;
    if (out.state.size() + value.size() + 1 > kMaxStateBytes) {
      out.state.clear();
      break;
    }
    out.state.append(out.state.empty() ? "" : ",").append(value);
  }
  return out;
}

}  // namespace hp::net
