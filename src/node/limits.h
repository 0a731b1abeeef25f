// The node's named limits. What an operator chooses stands in NodeOptions.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace hp {

inline constexpr std::size_t kDefaultKvBytes = std::size_t{512} << 20;
inline constexpr std::size_t kMaxTokenizerFileBytes = std::size_t{256} << 20;  ///< tokenizer.json and its neighbours

inline constexpr std::int32_t kMaxAnswerChoices = 128;       ///< prompts times n of one request
inline constexpr std::size_t kMaxStreamIdBytes = 64;         ///< of a gateway's stream id
inline constexpr std::size_t kMaxRequestIdBytes = 128;       ///< of a client's X-Request-Id; longer ones are replaced
inline constexpr std::size_t kInlinePlanBytes = 4096;        ///< bodies up to here are planned on the loop
inline constexpr std::chrono::milliseconds kHeartbeat{250};  ///< of journalled streams without tokens
inline constexpr int kMaxRetryAfterSeconds = 120;
inline constexpr std::size_t kMaxAdminConnections = 64, kMaxAdminBodyBytes = 4096;
inline constexpr std::size_t kMaxReplayStreams = 4096;                ///< kept for clients that come back
inline constexpr std::size_t kMaxReplayBytes = std::size_t{1} << 20;  ///< of the latest events of each
inline constexpr int kMaxHttpThreads = 64;
inline constexpr int kTaskThreads = 1;               ///< that parse and tokenize large requests
inline constexpr std::size_t kMaxQueuedTasks = 256;  ///< large requests waiting for that; more are answered 503
inline constexpr std::chrono::milliseconds kSupervisePeriod{250};
inline constexpr std::chrono::milliseconds kDrainPoll{20};
inline constexpr std::chrono::milliseconds kGpuStepTimeout{4'000};  ///< a step of a GPU takes less than one second
inline constexpr int kExitDeviceHung = 3;  ///< of the process: its device answers no more, and nothing can be tidied
inline constexpr std::chrono::milliseconds kCutTime{1'000};  ///< for telling clients that the node stops

}  // namespace hp
