// The bounds of what a request may ask for; beyond them is a 400 that names the parameter.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp::api {

inline constexpr std::size_t kMaxStopStrings = 16;
inline constexpr std::size_t kMaxStopBytes = 1024;  ///< of one stop string: so much text may be held back
inline constexpr std::size_t kMaxStopTokens = 128;
inline constexpr std::int64_t kMaxChoices = 128;
inline constexpr std::int64_t kMaxTopLogprobs = 20;
inline constexpr std::size_t kMaxLogitBias = 1024;
inline constexpr std::size_t kMaxMessages = 4096;
inline constexpr std::size_t kMaxTools = 128;
inline constexpr std::size_t kMaxToolNameBytes = 64;
inline constexpr std::size_t kMaxPrompts = 128;      ///< of one /v1/completions body
inline constexpr std::int64_t kMaxTokens = 1 << 24;  ///< more than any context; the node checks the model's own

}  // namespace hp::api
