#include "base/hash.h"

#include <xxhash.h>

namespace hp {

Hash128 hash128(std::span<const std::byte> bytes, std::uint64_t seed) {
  const XXH128_hash_t h = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {.low = h.low64, .high = h.high64};
}

Hash128 hash128_chain(const Hash128& parent, std::span<const std::byte> bytes) {
  // Both halves of the parent enter: the low one as the seed, the high one mixed into the result's other half.
  const Hash128 own = hash128(bytes, parent.low);
  const std::uint64_t mix[2] = {parent.high, own.high};
  return {.low = own.low ^ XXH3_64bits(mix, sizeof(mix)), .high = XXH3_64bits_withSeed(mix, sizeof(mix), own.low)};
}

}  // namespace hp
