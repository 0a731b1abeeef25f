// Weights as compressed-tensors stores them, seen as matrices again. "X.weight_packed" (int4, eight to a word) or an
// int8 "X.weight" with "X.weight_scale" becomes a tensor "X.weight" of one of our block types (dtype.h: i4_32 … i8_32),
// whose rows are put together when they are read. fp8 with "X.weight_scale" needs no more than the other name of its
// scales. Knows the published layouts of symmetric and asymmetric int4 groups, int8 and fp8; not 2:4 sparsity or
// activation order.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"

namespace hp {

/// Renames and adds tensors as described above. A tensor that is added has data == nullptr: compressed_rows() reads it.
/// `tensors` keep their views into the files.
Status resolve_compressed_tensors(std::vector<NamedTensor>& tensors);

/// True for a tensor whose rows compressed_rows() puts together.
inline bool is_compressed(const NamedTensor& tensor) {
  return tensor.view.data == nullptr;
}

/// A part of every row: whole blocks; columns < 0: all of them.
struct RowPart {
  std::int64_t first = 0, columns = -1;
};
/// Rows [first, first + count), or a part of them, as blocks of tensor.view.dtype.
void compressed_rows(const Checkpoint& checkpoint, const NamedTensor& tensor, std::int64_t first, std::int64_t count,
                     std::span<std::byte> out, RowPart part = {});

}  // namespace hp
