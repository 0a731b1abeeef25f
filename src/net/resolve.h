// Every address of a host name. Blocks: not for a loop.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hp::net {

/// Numeric addresses, sorted, each once.
Result<std::vector<std::string>> resolve_all(const std::string& host);

}  // namespace hp::net
