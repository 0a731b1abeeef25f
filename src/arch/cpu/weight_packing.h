// Packs a checkpoint's matrices into the kernels' layout, in one buffer: add() everything, then pack_all(). Undoes what
// files do to matrices (experts in one tensor, kv_b transposed, fp8 with block scales). Knows no architecture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "model/checkpoint.h"
#include "model/shard.h"
#include "tensor/buffer.h"

namespace hp {

/// A row of floats; empty when the model does not have it.
using FloatRow = std::vector<float>;

/// A matrix [n, k] cut out of a tensor, or out of a rank's part of it, that is read as rows of its last dimension.
struct MatrixSlice {
  std::int64_t first_row = 0;
  std::int32_t n = 0, k = 0;
  bool transposed = false;  ///< the rows hold [k, n]
  bool as_floats = false;   ///< packed as f32 whatever the file holds
};

class WeightPacking {
 public:
  /// `plan`: which part of every tensor is there to be packed; null: all of it.
  explicit WeightPacking(const Checkpoint& checkpoint, const ShardPlan* plan = nullptr)
      : checkpoint_(checkpoint), plan_(plan) {}

  /// The whole tensor [n, k].
  Status matrix(const std::string& name, std::int32_t n, std::int32_t k, kernels::PackedMatrix& target) {
    return slice(name, {.n = n, .k = k}, target);
  }
  /// Targets must not move before pack_all().
  Status slice(const std::string& name, const MatrixSlice& slice, kernels::PackedMatrix& target);
  /// A row of floats, at once.
  Status row(const std::string& name, std::int32_t count, FloatRow& out) const;

  /// Packs with the whole team and gives each tensor's mapped pages back as soon as its last slice is packed.
  Result<Buffer> pack_all(ParallelTeam& team) const;

 private:
  struct Job {
    const NamedTensor* tensor;
    const NamedTensor* scale;  ///< fp8's block scales, or null
    kernels::PackedMatrix* target;
    MatrixSlice slice;          ///< first_row is the file's
    std::int64_t first_column;  ///< of the file's rows
    DType packed;               ///< the type it is packed as
    std::size_t offset;
  };
  /// Panel by panel, from rows that `read` puts together: (file row, rows, out).
  template <typename Read>
  void pack_by_panels(const Job& job, Range panels, std::byte* out, const Read& read) const;
  [[nodiscard]] TensorPart part_of(const NamedTensor& tensor) const;
  [[nodiscard]] std::vector<float> scales_of(const Job& job) const;
  void pack(const Job& job, int member, int members, std::byte* out) const;
  void source_row(const Job& job, std::int64_t row, std::int64_t first, float* out, std::int64_t count) const;

  const Checkpoint& checkpoint_;
  const ShardPlan* plan_;
  std::vector<Job> jobs_;
  std::size_t total_ = 0;
};

}  // namespace hp
