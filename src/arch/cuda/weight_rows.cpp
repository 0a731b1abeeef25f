#include "arch/cuda/weight_rows.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

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

inline constexpr std::int32_t kIntGroup = 128;  // the most columns to a scale on the GPU
inline constexpr std::size_t kLongestBlock = 128;

/// A block of whole numbers and their scale.
struct IntBlock {
  float scale = 0.0F;
  std::array<std::int32_t, kLongestBlock> levels{};
};

std::uint8_t byte_at(const std::byte* data, std::size_t i) {
  return std::to_integer<std::uint8_t>(data[i]);
}

IntBlock int_block(DType dtype, const std::byte* data) {
  IntBlock out;
  const std::size_t size = traits(dtype).block_size;
  if (dtype == DType::q4_0 || dtype == DType::q8_0) {
    std::uint16_t half = 0;
    std::memcpy(&half, data, sizeof half);
    out.scale = f16_to_f32(half);
  } else {
    std::memcpy(&out.scale, data, sizeof out.scale);
  }
  if (dtype == DType::q8_0 || dtype == DType::i8_32) {
    const std::byte* codes = data + (dtype == DType::q8_0 ? 2 : 4);
    for (std::size_t i = 0; i < size; ++i) out.levels[i] = static_cast<std::int8_t>(codes[i]);
  } else if (dtype == DType::q4_0) {  // the second half of the block in the upper nibbles
    for (std::size_t i = 0; i < size; ++i) out.levels[i] = (byte_at(data, 2 + i % 16) >> (i < 16 ? 0 : 4) & 15) - 8;
  } else {
    const int zero = byte_at(data, 4);
    for (std::size_t i = 0; i < size; ++i) out.levels[i] = (byte_at(data, 8 + i / 2) >> (i % 2 * 4) & 15) - zero;
  }
  return out;
}

}  // namespace

std::int32_t int_group_of(const Checkpoint& checkpoint, int bits) {
  const WeightRowReader reader(checkpoint);
  std::int32_t least = kIntGroup;
  for (const NamedTensor& tensor : checkpoint.tensors()) {
    if (!tensor.name.starts_with("blk.") || tensor.view.shape.rank() < 2) continue;
    if (const std::int32_t group = reader.int_group(tensor, bits); group > 0) least = std::min(least, group);
  }
  return least;
}

std::int32_t piece_rows(std::size_t row_bytes) {
  constexpr std::size_t kPieceBytes = std::size_t{32} << 20;
  return std::max(kFp8Block, static_cast<std::int32_t>(kPieceBytes / row_bytes) / kFp8Block * kFp8Block);
}

Result<const NamedTensor*> WeightRowReader::find(const std::string& name) const {
  const NamedTensor* tensor = checkpoint_.find(name);
  if (tensor == nullptr) return fail(ErrorCode::corrupt_data, "the model has no tensor {}", name);
  return tensor;
}

const std::byte* WeightRowReader::blocks(const NamedTensor& tensor, std::int64_t first, std::int32_t count) {
  const Shape& shape = tensor.view.shape;
  const std::size_t row_bytes = storage_bytes(tensor.view.dtype, static_cast<std::size_t>(shape[shape.rank() - 1]));
  if (!is_compressed(tensor)) return tensor.view.data + static_cast<std::size_t>(first) * row_bytes;
  blocks_.resize(static_cast<std::size_t>(count) * row_bytes);
  compressed_rows(checkpoint_, tensor, first, count, blocks_);
  return blocks_.data();
}

std::span<const float> WeightRowReader::floats(const NamedTensor& tensor, std::int64_t first, std::int32_t count,
                                               std::int32_t columns) {
  const DType dtype = tensor.view.dtype;
  floats_.resize(static_cast<std::size_t>(count) * static_cast<std::size_t>(columns));
  kernels::dequantize(dtype, blocks(tensor, first, count), floats_.size(), floats_.data());
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

std::int32_t WeightRowReader::int_group(const NamedTensor& tensor, int bits) const {
  const auto size = static_cast<std::int32_t>(traits(tensor.view.dtype).block_size);
  switch (tensor.view.dtype) {
    case DType::q4_0:
      return size;
    case DType::q8_0:
      return bits >= 8 ? size : 0;
    case DType::i4_32:
    case DType::i4_64:
    case DType::i4_128:
      return bits >= 8 || checkpoint_.find(tensor.name + "_zero_point") == nullptr ? size : 0;
    case DType::i8_32: {
      if (bits < 8) return 0;
      const std::int64_t columns = tensor.view.shape[1];
      const std::int64_t group = columns / checkpoint_.find(tensor.name + "_scale")->view.shape[1];
      if (group == columns) return kIntGroup;  // one scale: the last group may be short
      return group % 128 == 0 ? 128 : group % 64 == 0 ? 64 : 32;
    }
    default:
      return 0;
  }
}

IntRows WeightRowReader::int_rows(const NamedTensor& tensor, std::int64_t first, std::int32_t count, int bits,
                                  std::int32_t group) {
  const DTypeTraits& t = traits(tensor.view.dtype);
  const Shape& shape = tensor.view.shape;
  const auto columns = static_cast<std::size_t>(shape[shape.rank() - 1]), size = std::size_t{t.block_size};
  const auto step = static_cast<std::size_t>(group);
  const std::byte* data = blocks(tensor, first, count);
  codes_.clear(), scales_.clear();
  for (std::size_t block = 0; block < static_cast<std::size_t>(count) * columns / size;
       ++block, data += t.block_bytes) {
    const IntBlock b = int_block(tensor.view.dtype, data);
    const std::size_t column = block * size % columns;
    for (std::size_t i = 0; i < size; ++i) {
      if ((column + i) % step == 0) scales_.push_back(b.scale);
      if (bits == 8)
        codes_.push_back(static_cast<std::uint8_t>(b.levels[i]));
      else if (i % 2 == 0)
        codes_.push_back(static_cast<std::uint8_t>(b.levels[i] + 8));
      else
        codes_.back() = static_cast<std::uint8_t>(codes_.back() | (b.levels[i] + 8) << 4);
    }
  }
  return {codes_, scales_};
}

}  // namespace hp
