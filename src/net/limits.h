// Named limits of the net room that are not options: what a peer can make us hold or wait for.
#pragma once

#include <chrono>
#include <cstddef>

namespace hp::net {

inline constexpr std::size_t kReadChunkBytes = 16 << 10;     ///< one socket read
inline constexpr std::size_t kMaxPipelinedBytes = 64 << 10;  ///< read ahead while an answer is in progress
inline constexpr std::size_t kMaxLingerBytes = 64 << 20;     ///< discarded after an error answer, before the close
inline constexpr std::chrono::milliseconds kLingerTimeout{2'000};
inline constexpr std::chrono::milliseconds kAcceptRetry{100};  ///< after running out of descriptors
inline constexpr int kListenBacklog = 4096;
inline constexpr std::size_t kClientMaxHeaderBytes = 64 << 10;

}  // namespace hp::net
