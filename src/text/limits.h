// Limits of the room text.
#pragma once

#include <cstddef>

namespace hp::text_limits {

inline constexpr std::size_t kVocabMax = 4U << 20U;         ///< tokens of one vocabulary
inline constexpr std::size_t kSpecialLengthMax = 512;       ///< bytes of a special token's spelling
inline constexpr std::size_t kTextRunBytesMax = 1U << 30U;  ///< a longer run is cut here, so that offsets fit 32 bits

}  // namespace hp::text_limits
