// Named limits of the store: what may wait for Redis, and for how long.
#pragma once

#include <chrono>
#include <cstddef>

namespace hp::store {

using std::chrono::milliseconds;

inline constexpr std::size_t kMaxQueuedCommands = 16'384;  ///< further ones fail at once
inline constexpr std::size_t kMaxQueuedBytes = 32 << 20;
inline constexpr std::size_t kMaxPipelined = 512;  ///< commands of one exchange
inline constexpr milliseconds kLate{5};            ///< an exchange that takes longer is late
inline constexpr int kLateRun = 8;                 ///< so many late ones in a row make a server that answers late
inline constexpr milliseconds kRetryMin{200};      ///< first pause before the next try of a server that is away
inline constexpr milliseconds kRetryMax{2'000};

}  // namespace hp::store
