// HP_CHECK: an invariant that only a bug can break. Always on; prints the expression, the place and the values, then
// aborts.
#pragma once

#include <fmt/format.h>

#include <string>

namespace hp {
[[noreturn]] void check_failed(const char* expression, const char* file, int line, const std::string& detail);
}  // namespace hp

/// `HP_CHECK(block < size, "block {} of {}", block, size);` the text is optional.
#define HP_CHECK(condition, ...)                                                                             \
  do {                                                                                                       \
    if (!(condition)) [[unlikely]]                                                                           \
      ::hp::check_failed(#condition, __FILE__, __LINE__, std::string(__VA_OPT__(fmt::format(__VA_ARGS__)))); \
  } while (false)
