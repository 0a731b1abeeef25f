// The engine's named limits. Queue lengths that an operator chooses stand in EngineOptions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp {

inline constexpr std::int32_t kMaxChoices = 128;       ///< choices of one request
inline constexpr std::int32_t kMaxTopLogprobs = 20;    ///< alternatives reported per token
inline constexpr std::int32_t kMaxStopTokens = 256;    ///< per request
inline constexpr std::int32_t kMaxLogitBias = 4096;    ///< entries per request
inline constexpr std::int32_t kMaxAdmitsPerStep = 16;  ///< bounds the prefix look-ups of one step
inline constexpr std::int32_t kMaxPassedBy = 32;       ///< smaller sequences that may go before one that does not fit
inline constexpr std::size_t kMaxPendingCancels = 65'536;

inline constexpr std::int32_t kMaxDraftTokens = 32;  ///< guessed ahead for one sequence
inline constexpr std::int32_t kMaxDraftRows = 32;    ///< guessed in one step, all sequences together
inline constexpr std::int32_t kDraftFailures = 3;    ///< guesses wrong at once before a sequence rests
inline constexpr std::int32_t kDraftRest = 16;       ///< decodes without a guess then
inline constexpr float kWorthGuessing = 0.2F;        ///< share of right guesses below which a single one costs more
inline constexpr std::size_t kLookupLongest = 4, kLookupShortest = 2;  ///< tokens that prompt lookup matches
inline constexpr std::size_t kLookupWindow = 32'768;                   ///< latest tokens that it searches

}  // namespace hp
