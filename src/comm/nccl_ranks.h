// Ranks that are GPUs, through NCCL. The library is looked for at run time (libnccl.so.2): the program needs neither it
// nor CUDA, and one machine with one GPU never asks for it.
//
// Every call is put on the device's stream and returns; buffers are device memory. NCCL's own sum adds in an order that
// its choice of algorithm gives, and so the size of the message: a batch would change bits. Here a sum is a gathering
// of all parts and a fold in rank order by a kernel of the caller's.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace hp {

class NcclLibrary;

/// Loads the library: `path`, or libnccl.so.2 where the system's loader looks. An error says what is missing.
Result<std::shared_ptr<const NcclLibrary>> load_nccl(const std::filesystem::path& path = {});

/// Names a group; made by one rank, told to all.
using NcclId = std::array<char, 128>;
Result<NcclId> make_nccl_id(const NcclLibrary& nccl);

/// What the group computes on. The current device of the calling thread must be the rank's.
struct NcclDevice {
  void* stream = nullptr;   ///< cudaStream_t
  void* scratch = nullptr;  ///< device memory for the parts of a sum
  std::size_t scratch_bytes = 0;
  /// Puts on the stream: out[i] = parts[0][i] + … + parts[world - 1][i], parts [world, count], in f32, rounded once.
  std::function<Status(const void* parts, void* out, std::size_t count, int world, WireType type)> fold;
};

/// Returns when all ranks have joined. The library's own failures are sentences; a step that hangs is the watchdog's.
Result<std::unique_ptr<Communicator>> join_nccl(std::shared_ptr<const NcclLibrary> nccl, const NcclId& id, int rank,
                                                int world, NcclDevice device);

}  // namespace hp
