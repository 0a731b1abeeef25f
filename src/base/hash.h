// Hashes: XXH3-128 for lookups (always verified by equality), SHA-256 lives in net (OpenSSL).
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace hp {

struct Hash128 {
  std::uint64_t low = 0, high = 0;
  constexpr auto operator<=>(const Hash128&) const = default;
};

Hash128 hash128(std::span<const std::byte> bytes, std::uint64_t seed = 0);

/// The hash of `bytes` chained to `parent`: the key of a prefix block is the hash of all tokens up to its end.
Hash128 hash128_chain(const Hash128& parent, std::span<const std::byte> bytes);

}  // namespace hp

template <>
struct std::hash<hp::Hash128> {
  std::size_t operator()(const hp::Hash128& h) const noexcept { return static_cast<std::size_t>(h.low); }
};
