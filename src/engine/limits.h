// The engine's named limits. Queue lengths that an operator chooses stand in EngineOptions.
#pragma once

#include <cstdint>

namespace hp {

inline constexpr std::int32_t kMaxChoices = 128;       ///< choices of one request
inline constexpr std::int32_t kMaxTopLogprobs = 20;    ///< alternatives reported per token
inline constexpr std::int32_t kMaxStopTokens = 256;    ///< per request
inline constexpr std::int32_t kMaxLogitBias = 4096;    ///< entries per request
inline constexpr std::int32_t kMaxAdmitsPerStep = 16;  ///< bounds the prefix look-ups of one step

}  // namespace hp
