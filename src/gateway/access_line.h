// The one line that every request leaves in the access log: what an operator asks afterwards, and nothing that a client
// said but the model's name. No key, no prompt, no query string.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hp::gateway {

struct AccessLine {
  std::string_view trace, stream, tenant, method, path, model, outcome;
  int status = 0;
  bool streamed = false, reattached = false;
  std::uint64_t prompt_tokens = 0, completion_tokens = 0;
  std::optional<double> first_token_ms;
  double ms = 0;
  std::vector<std::string> nodes = {};  ///< in the order in which they served
  int attempts = 0, resumes = 0;
};

/// One JSON object; `unix_ms`: when the request came.
std::string access_json(const AccessLine& line, std::int64_t unix_ms);

}  // namespace hp::gateway
