#include "node/random_id.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "base/check.h"

namespace hp {

std::uint64_t random_u64() {
  std::uint64_t value = 0;
  HP_CHECK(::getrandom(&value, sizeof value, 0) == sizeof value, "getrandom failed");
  return value;
}

std::string random_id() {
  return fmt::format("{:016x}{:08x}", random_u64(), static_cast<std::uint32_t>(random_u64()));
}

}  // namespace hp
