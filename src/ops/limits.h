// Named limits of watching and acting.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp::ops::limits {

inline constexpr std::size_t kMaxRules = 256;
inline constexpr std::size_t kMaxAlertSeries = 20'000;  ///< rule and instance pairs; further ones are counted, not kept
inline constexpr std::int64_t kMaxGapMs = 60'000;       ///< silence that a pending alert survives
inline constexpr std::size_t kMaxWindowSnapshots = 2'048;        ///< of one counter
inline constexpr std::int64_t kMaxNoticeAgeMs = 24 * 3'600'000;  ///< older ones are given up
inline constexpr std::size_t kMaxChannels = 32;
inline constexpr std::size_t kMaxMergedNotices = 20;
inline constexpr std::size_t kMaxNoticeQueue =
    1'024;  ///< per channel; the oldest that is not the first of its incident goes
inline constexpr std::size_t kMaxBundleBytes = 20u << 20;
inline constexpr std::size_t kMaxProcFileBytes = 1u << 20;
inline constexpr unsigned kMaxGpus = 64;
inline constexpr int kMaxXidsPerRead = 64;
inline constexpr std::size_t kMaxPageBytes = 16u << 20;  ///< one /metrics page
inline constexpr std::size_t kMaxOpenIncidents = 64;
inline constexpr std::size_t kMaxTimelineEntries = 500;      ///< of one incident; further ones are counted
inline constexpr std::size_t kMaxRememberedIncidents = 200;  ///< in memory, when the store fails or is switched off
inline constexpr std::size_t kMaxAuditEntries = 2'000;       ///< in memory
inline constexpr std::size_t kMaxStoreQueue = 4'096;         ///< writes on their way to the disk
inline constexpr std::size_t kMaxActionQueue = 64;
inline constexpr std::size_t kMaxPlaybookSteps = 32;

}  // namespace hp::ops::limits
