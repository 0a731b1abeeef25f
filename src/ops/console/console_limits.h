// Named limits of the history, the console and the diagnostics bundle.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp::ops::limits {

inline constexpr std::size_t kMaxHistorySeries = 4'096;         ///< 13 KiB each
inline constexpr std::size_t kMaxSeriesNameBytes = 200;         ///< a node's name and a metric
inline constexpr std::size_t kMaxHistoryFileBytes = 96u << 20;  ///< then it is written anew, without what is too old
inline constexpr std::int64_t kHistoryRetryMs = 30'000;         ///< after a write failed (a full disk)
inline constexpr std::size_t kMaxHistoryPoints = 1'008;         ///< of one answer
inline constexpr std::size_t kMaxHistoryLanes = 64;             ///< of one question

inline constexpr std::size_t kMaxConsoleKeys = 64;
inline constexpr std::chrono::hours kSessionLife{12};
inline constexpr std::size_t kMaxRevokedSessions = 4'096;  ///< logged out before their end
inline constexpr int kLoginsPerMinute = 10;                ///< failed ones of one address
inline constexpr int kLoginsPerMinuteInAll = 60;
inline constexpr std::size_t kMaxLoginAddresses = 4'096;
inline constexpr std::size_t kMaxConsoleBodyBytes = 1u << 20;
inline constexpr std::size_t kMaxWatchers = 64;  ///< open event streams of browsers
inline constexpr std::chrono::milliseconds kConsoleTick{1'000};
inline constexpr std::size_t kItemsPerSecond = 100;  ///< nodes and the like that are sent to a browser

inline constexpr std::size_t kMaxTarFileBytes = 4u << 20;  ///< of one file in a bundle; its end is kept
inline constexpr std::size_t kMaxStackBytes = 512u << 10;  ///< of one process
inline constexpr std::size_t kMaxBundleProcesses = 64;
inline constexpr std::chrono::milliseconds kStackPatience{1'500};  ///< for a process to write its own stacks
inline constexpr std::chrono::milliseconds kBundlePatience{12'000};

}  // namespace hp::ops::limits
