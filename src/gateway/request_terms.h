// On what terms a request waits: its class and its deadline, from its headers or its body, within what its tenant may
// ask for.
#pragma once

#include <optional>

#include "base/result.h"
#include "gateway/limits.h"
#include "gateway/request_peek.h"
#include "gateway/wait_queue.h"
#include "net/http.h"

namespace hp::gateway {

struct RequestTerms {
  std::optional<Priority> asked;
  /// A tenant's class is the default and the highest that it gets; where there are no tenants, all may ask for all.
  [[nodiscard]] Priority priority(std::optional<Priority> tenants) const;
  /// The answer must have begun by then (a whole answer: be there), counted from the request's arrival.
  std::optional<milliseconds> deadline;
};

/// Homeport-Priority and Homeport-Deadline-Ms, or the members "priority" (a word) and "deadline_ms".
Result<RequestTerms> read_terms(const net::HttpRequest& request, const RequestPeek& peek);

}  // namespace hp::gateway
