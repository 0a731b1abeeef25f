#include "arch/cuda/weight_rows.h"

#include <algorithm>
#include <cstddef>

#include "kernels/kernel_table.h"
#include "model/compressed_tensors.h"

namespace hp {
namespace {

inline constexpr std::int32_t kFp8Block = 128;

float scale_at(const TensorView& scale, std::int64_t row, std::int64_t column) {
  const auto i = static_cast<std::size_t>(row * scale.shape[1] + column);
  if (scale.dtype == DType::f8_e8m0) return f8_e8m0_to_f32(static_cast<std::uint8_t>(scale.data[i]));
  float out = 0.0F;
  kernels::dequantize(scale.dtype, scale.data + i * traits(scale.dtype).block_bytes, 1, &out);
  return out;
}

}  // namespace

std::int32_t piece_rows(std::size_t row_bytes) {
  constexpr std::size_t kPieceBytes = std::size_t{32} << 20;
  return std::max(kFp8Block, static_cast<std::int32_t>(kPieceBytes / row_bytes) / kFp8Block * kFp8Block);
}

Result<const NamedTensor*> WeightRowReader::find(const std::string& name) const {
  const NamedTensor* tensor = checkpoint_.find(name);
  if (tensor == nullptr) return fail(ErrorCode::corrupt_data, "the model has no tensor {}", name);
  return tensor;
}

std::span<const float> WeightRowReader::floats(const NamedTensor& tensor, std::int64_t first, std::int32_t count,
                                               std::int32_t columns) {
  const DType dtype = tensor.view.dtype;
  const std::size_t row_bytes = storage_bytes(dtype, static_cast<std::size_t>(columns));
  floats_.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(columns));
  const std::byte* data = nullptr;
  if (is_compressed(tensor)) {
    blocks_.resize(static_cast<std::size_t>(count) * row_bytes);
    compressed_rows(checkpoint_, tensor, first, count, blocks_);
    data = blocks_.data();
  } else {
    data = tensor.view.data + static_cast<std::size_t>(first) * row_bytes;
  }
  kernels::dequantize(dtype, data, floats_.size(), floats_.data());
  if (dtype != DType::f8_e4m3) return floats_;
  const TensorView& scale = checkpoint_.find(tensor.name + "_scale_inv")->view;
  const std::int64_t rows = checkpoint_.config().fp8_block_rows, width = checkpoint_.config().fp8_block_columns;
  float* row = floats_.data();
  for (std::int64_t r = first; r < first + count; ++r, row += columns) {
    for (std::int64_t c = 0; c < columns; c += width) {
      const float factor = scale_at(scale, r / rows, c / width);
      const std::int64_t end = std::min<std::int64_t>(c + width, columns);
      for (std::int64_t i = c; i < end; ++i) row[i] *= factor;
    }
  }
  return floats_;
}

const void* WeightRowReader::bf16(const NamedTensor& tensor, std::int64_t first, std::int32_t count,
                                  std::int32_t columns) {
  if (tensor.view.dtype == DType::bf16)
    return tensor.view.data + static_cast<std::size_t>(first) * static_cast<std::size_t>(columns) * 2U;
  const std::span<const float> values = floats(tensor, first, count, columns);
  bf16_.resize(values.size());
  std::ranges::transform(values, bf16_.begin(), f32_to_bf16);
  return bf16_.data();
}

bool WeightRowReader::is_fp8(const NamedTensor& tensor) const {
  const ModelConfig& c = checkpoint_.config();
  return tensor.view.dtype == DType::f8_e4m3 && c.fp8_block_rows == kFp8Block && c.fp8_block_columns == kFp8Block;
}

std::span<const float> WeightRowReader::fp8_scales(const NamedTensor& tensor, std::int64_t first, std::int32_t count) {
  const TensorView& scale = checkpoint_.find(tensor.name + "_scale_inv")->view;
  scales_.clear();
  for (std::int64_t r = first / kFp8Block; r <= (first + count - 1) / kFp8Block; ++r)
    for (std::int64_t c = 0; c < scale.shape[1]; ++c) scales_.push_back(scale_at(scale, r, c));
  return scales_;
}

}  // namespace hp
