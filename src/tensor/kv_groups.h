// The grouping of an 8-bit KV cache: how many dimensions of a token's K or V share one scale.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp {

inline constexpr std::size_t kKvScaleDims = 64;

constexpr std::size_t kv_scale_groups(std::int32_t dims) {
  return (static_cast<std::size_t>(dims) + kKvScaleDims - 1) / kKvScaleDims;
}

}  // namespace hp
