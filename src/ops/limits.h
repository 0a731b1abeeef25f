// Named limits of watching and acting.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp::ops::limits {

inline constexpr std::size_t kMaxRules = 256;
inline constexpr std::size_t kMaxAlertSeries = 20'000;  ///< rule and instance pairs; further ones are counted, not kept
inline constexpr std::int64_t kMaxGapMs = 60'000;       ///< silence that a pending alert survives
inline constexpr std::size_t kMaxWindowSnapshots = 2'048;  ///< of one counter
inline constexpr std::size_t kMaxNoticeAttempts = 8;
inline constexpr std::size_t kMaxNoticeQueue =
    1'024;  ///< per channel; the oldest that is not the first of its incident goes
inline constexpr std::size_t kMaxBundleBytes = 20u << 20;
inline constexpr std::size_t kMaxProcFileBytes = 1u << 20;

}  // namespace hp::ops::limits
