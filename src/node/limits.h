// The node's named limits. What an operator chooses stands in NodeOptions.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp {

inline constexpr std::size_t kDefaultKvBytes = std::size_t{512} << 20;
inline constexpr std::size_t kMaxTokenizerFileBytes = std::size_t{256} << 20;  ///< tokenizer.json and its neighbours

inline constexpr int kMaxHttpThreads = 64;
inline constexpr int kTaskThreads = 1;               ///< that parse and tokenize large requests
inline constexpr std::size_t kMaxQueuedTasks = 256;  ///< large requests waiting for that; more are answered 503
inline constexpr std::chrono::milliseconds kSupervisePeriod{250};
inline constexpr std::chrono::milliseconds kDrainPoll{20};

}  // namespace hp
