// Who may use the /v1 paths. Keys are compared in constant time and never logged.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hp {

/// True when there are no keys, or when `authorization` is "Bearer <one of them>".
bool may_enter(const std::vector<std::string>& keys, std::string_view authorization);

}  // namespace hp
