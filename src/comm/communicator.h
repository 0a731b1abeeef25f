// Ranks that compute one model together, each with its part of the weights, and what they tell each other. One
// interface over threads of one process (local_ranks.h) and GPUs (nccl_ranks.h); buffers lie where the implementation
// computes.
//
// Contract: every rank calls the same functions in the same order with the same sizes. A sum is taken in rank order,
// 0 to world - 1, in f32, whatever rank comes first and however many elements go together: its bits depend on the
// number of ranks alone. So batch invariance holds among a fixed number of ranks, and a stream begun on two ranks goes
// on only on two: the number belongs to the identity of a node.
//
// Errors are final: the first one breaks the whole group, every rank that waits gets it at once, and every later call
// gets it again. A rank that dies or does not come within the time limit is such an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace hp {

enum class WireType : std::uint8_t { f32, bf16 };
constexpr std::size_t bytes_of(WireType type) {
  return type == WireType::f32 ? 4 : 2;
}

class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int world() const = 0;

  /// data[count] becomes the sum over all ranks, rounded once to its type.
  virtual Status all_reduce_sum(void* data, std::size_t count, WireType type) = 0;
  /// out [world, bytes]: what every rank gave, in rank order.
  virtual Status all_gather(const void* in, void* out, std::size_t bytes) = 0;
  /// data[bytes] becomes what rank `root` has.
  virtual Status broadcast(void* data, std::size_t bytes, int root) = 0;
  virtual Status barrier() = 0;
  /// Breaks the group; may be called from any thread, at any time, more than once: the first reason stays.
  virtual void abort(std::string_view why) = 0;
};

}  // namespace hp
