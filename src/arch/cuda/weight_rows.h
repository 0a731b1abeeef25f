// Rows of a checkpoint's matrices as a GPU takes them: bf16 whatever the file holds; e4m3 with its block scales, or
// whole numbers with the scales of their groups, where the file holds those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"

namespace hp {

/// Whole numbers as the plug-in takes them (kernels/cuda/int_layout.h): codes of every row in sequence, scales [rows,
/// columns / group] rounded up.
struct IntRows {
  std::span<const std::uint8_t> codes;
  std::span<const float> scales;
};

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
  /// Columns to a scale, 32, 64 or 128 at most, of a matrix whose weights are a scale times a whole number of `bits`:
  /// int4 and int8 of compressed-tensors, Q4_0, Q8_0. Numbers of 4 bits with zero points need 8. 0: no such matrix.
  [[nodiscard]] std::int32_t int_group(const NamedTensor& tensor, int bits) const;
  /// Its rows with a scale per `group` columns, a divisor of int_group().
  IntRows int_rows(const NamedTensor& tensor, std::int64_t first, std::int32_t count, int bits, std::int32_t group);

 private:
  /// Rows as the file's blocks; valid until the next call.
  const std::byte* blocks(const NamedTensor& tensor, std::int64_t first, std::int32_t count);

  const Checkpoint& checkpoint_;
  std::vector<std::byte> blocks_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> floats_, scales_;
  std::vector<std::uint16_t> bf16_;
};

/// The most columns to a scale that every matrix of the layers can have which is loaded as whole numbers of `bits`
/// without rounding; 128 when there is none.
std::int32_t int_group_of(const Checkpoint& checkpoint, int bits);

/// Rows of so many bytes that go to the device in one piece: whole blocks of 128, about 32 MiB.
std::int32_t piece_rows(std::size_t row_bytes);

}  // namespace hp
