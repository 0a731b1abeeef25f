// Named limits of the hub room: what a hub can make us hold, wait for or repeat.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp::hub {

inline constexpr std::size_t kMaxListBytes = 16 << 20;  ///< one page of a file list
inline constexpr int kMaxListPages = 200;
inline constexpr std::size_t kMaxFiles = 10'000;  ///< of one repository
inline constexpr int kMaxRedirects = 5;
inline constexpr int kMaxAttempts = 6;  ///< in a row without a byte, per part
inline constexpr std::chrono::milliseconds kFirstBackoff{300}, kLongestBackoff{10'000};
inline constexpr std::uint64_t kPartBytes = 64 << 20;  ///< one ranged request
inline constexpr int kMaxConnections = 64;
inline constexpr std::uint64_t kDiskMargin = 64 << 20;             ///< left free on the disk
inline constexpr std::chrono::milliseconds kStateInterval{1'000};  ///< between notes of what has arrived

}  // namespace hp::hub
