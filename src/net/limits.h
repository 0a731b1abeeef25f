// Named limits of the net room that are not options: what a peer can make us hold or wait for.
#pragma once

#include <chrono>
#include <cstddef>

namespace hp::net {

inline constexpr std::size_t kReadScratchBytes = 64 << 10;   ///< one socket read
inline constexpr std::size_t kMaxPipelinedBytes = 64 << 10;  ///< read ahead while an answer is in progress
inline constexpr std::size_t kMaxLingerBytes = 64 << 20;     ///< discarded after an error answer, before the close
inline constexpr std::chrono::milliseconds kLingerTimeout{2'000};
inline constexpr std::chrono::milliseconds kTlsHandshakeTimeout{10'000};  ///< of a client, from its connection on
inline constexpr std::chrono::milliseconds kAcceptRetry{100};             ///< after running out of descriptors
inline constexpr int kListenBacklog = 4096;
inline constexpr std::size_t kClientMaxHeaderBytes = 64 << 10;
inline constexpr std::size_t kMaxChunkLineBytes = 1 << 10;       ///< a chunk's size with its extensions; a trailer
inline constexpr std::size_t kMaxIdlePerPeer = 256;              ///< a client's kept connections to one address
inline constexpr std::chrono::milliseconds kMaxIdleAge{30'000};  ///< shorter than servers keep idle clients
inline constexpr std::chrono::milliseconds kIdleSweep{5'000};
inline constexpr int kMaxReadsPerWake = 8;  ///< of one connection, before the others' turn

}  // namespace hp::net
