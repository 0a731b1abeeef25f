// Limits of the room text.
#pragma once

#include <cstddef>

namespace hp::text_limits {

inline constexpr std::size_t kVocabMax = 4U << 20U;         ///< tokens of one vocabulary
inline constexpr std::size_t kSpecialLengthMax = 512;       ///< bytes of a special token's spelling
inline constexpr std::size_t kTextRunBytesMax = 1U << 30U;  ///< a longer run is cut here, so that offsets fit 32 bits

// Reply parser: how much of an answer may be held back.
inline constexpr std::size_t kHeldLineBreaksMax = 64;           ///< before a marker
inline constexpr std::size_t kCallHeadBytesMax = 1024;          ///< a tool call's type or name; more is content
inline constexpr std::size_t kToolCallRawBytesMax = 1U << 20U;  ///< a call whose name has not come yet

}  // namespace hp::text_limits
