#include "gateway/request_terms.h"

#include <algorithm>
#include <charconv>

namespace hp::gateway {

Priority RequestTerms::priority(std::optional<Priority> tenants) const {
  return tenants ? std::max(*tenants, asked.value_or(*tenants)) : asked.value_or(Priority::normal);
}

Result<RequestTerms> read_terms(const net::HttpRequest& request, const RequestPeek& peek) {
  RequestTerms terms;
  const std::string_view header = request.header("homeport-priority");
  // A number or another word in the body is not for us: other servers have a "priority" of their own.
  terms.asked = parse_priority(header.empty() ? std::string_view(peek.priority) : header);
  if (!terms.asked && !header.empty())
    return fail(ErrorCode::invalid_argument, "Homeport-Priority must be high, normal or low, found '{}'.", header);
  std::int64_t ms = peek.deadline_ms;
  if (const std::string_view text = request.header("homeport-deadline-ms"); !text.empty()) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
    if (error != std::errc() || end != text.data() + text.size()) ms = -1;
  }
  if (ms < 0 || ms > kMaxDeadline.count())
    return fail(ErrorCode::invalid_argument, "A deadline is 1 to {} milliseconds from now.", kMaxDeadline.count());
  if (ms > 0) terms.deadline = milliseconds(ms);
  return terms;
}

}  // namespace hp::gateway
