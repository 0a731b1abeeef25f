// Rows of a checkpoint's matrices as a GPU takes them: bf16 whatever the file holds, or e4m3 with its block scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"

namespace hp {

class WeightRowReader {
 public:
  explicit WeightRowReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  [[nodiscard]] Result<const NamedTensor*> find(const std::string& name) const;
  /// Rows [first, first + count) of `columns`; valid until the next call.
  std::span<const float> floats(const NamedTensor& tensor, std::int64_t first, std::int32_t count,
                                std::int32_t columns);
  /// The same as bf16, rounded to nearest; straight from the file where it holds bf16.
  const void* bf16(const NamedTensor& tensor, std::int64_t first, std::int32_t count, std::int32_t columns);
  /// Whether the file holds e4m3 in blocks of 128 × 128.
  [[nodiscard]] bool is_fp8(const NamedTensor& tensor) const;
  /// Scales of the blocks that begin at row `first`, a multiple of 128: [count / 128, columns / 128] rounded up.
  std::span<const float> fp8_scales(const NamedTensor& tensor, std::int64_t first, std::int32_t count);

 private:
  const Checkpoint& checkpoint_;
  std::vector<std::byte> blocks_;
  std::vector<float> floats_, scales_;
  std::vector<std::uint16_t> bf16_;
};

/// Rows of so many bytes that go to the device in one piece: whole blocks of 128, about 32 MiB.
std::int32_t piece_rows(std::size_t row_bytes);

}  // namespace hp
