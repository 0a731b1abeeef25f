// Addresses by name: what a host name stands for, and which addresses are this machine's own.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hp::net {

/// Refuses addresses that other machines could reach: for routes without keys.
Status check_own_address(const std::string& address);

/// Numeric addresses, sorted, each once. Blocks: not for a loop.
Result<std::vector<std::string>> resolve_all(const std::string& host);

}  // namespace hp::net
