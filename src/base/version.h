// The program's version, as CMakeLists.txt's project() line has it.
#pragma once

#include <string_view>

namespace hp {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace hp
