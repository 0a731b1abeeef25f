#include "arch/cpu/weight_packing.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "model/compressed_tensors.h"

namespace hp {
namespace {

constexpr std::size_t kAlignment = 64;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}
std::int32_t panels_of(std::int32_t n) {
  return (n + kernels::kPanelColumns - 1) / kernels::kPanelColumns;
}

float scale_at(const TensorView& scale, std::int64_t row, std::int64_t column) {
  const std::size_t i = z(row * scale.shape[1] + column);
  if (scale.dtype == DType::f8_e8m0) return f8_e8m0_to_f32(static_cast<std::uint8_t>(scale.data[i]));
  float out = 0.0F;
  kernels::dequantize(scale.dtype, scale.data + i * traits(scale.dtype).block_bytes, 1, &out);
  return out;
}

/// What a matrix is packed as when it cannot be packed as it lies: 16-bit floats stay, everything else becomes f32.
DType unpacked_type(DType source) {
  return source == DType::bf16 || source == DType::f16 ? source : DType::f32;
}

/// f32 to the 16-bit type that they came from, exactly; f32 stays.
void store_row(DType type, const float* values, std::size_t count, std::byte* out) {
  if (type == DType::f32) {
    std::memcpy(out, values, count * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t bits = type == DType::bf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    std::memcpy(out + i * 2, &bits, 2);
  }
}

}  // namespace

Status WeightPacking::slice(const std::string& name, const MatrixSlice& slice, kernels::PackedMatrix& target) {
  const NamedTensor* tensor = checkpoint_.find(name);
  HP_CHECK(tensor != nullptr, "tensor '{}' has not been checked", name);
  const TensorView& view = tensor->view;
  const TensorPart part = part_of(*tensor);
  const std::int64_t rows = slice.transposed ? slice.k : slice.n, width = slice.transposed ? slice.n : slice.k;
  const std::int64_t first_row = part.row_in_file(slice.first_row);
  HP_CHECK(part.columns == width && (first_row + rows) * part.all_columns <= view.shape.elements(),
           "{} rows of {} from {} of '{}' {}", rows, width, slice.first_row, name, view.shape.to_string());
  const NamedTensor* scale = view.dtype == DType::f8_e4m3 ? checkpoint_.find(name + "_scale_inv") : nullptr;
  // The kernels keep fp8 with its scales where blocks begin with the matrix and are wide enough; else it becomes f32.
  const std::int32_t columns = checkpoint_.config().fp8_block_columns;
  const bool whole = slice.first_row == 0 && view.shape.rank() == 2 && slice.n == part.rows;
  const bool keeps_scales = scale == nullptr || (whole && (columns % 128 == 0 || columns >= slice.k));
  const bool by_panels = columns > 0 && part.columns != part.all_columns;  // whose blocks must not begin inside one
  const std::int32_t block_rows = checkpoint_.config().fp8_block_rows;
  if (scale != nullptr && by_panels && block_rows != 1 && block_rows % kernels::kPanelColumns != 0)
    return fail(ErrorCode::unsupported, "'{}' in {}: fp8 blocks of {} rows cannot be cut by columns", name,
                tensor->source, block_rows);
  const bool as_is = !slice.transposed && !slice.as_floats && keeps_scales;
  const DType packed = as_is ? view.dtype : slice.as_floats ? DType::f32 : unpacked_type(view.dtype);
  auto bytes = kernels::packed_bytes(packed, slice.n, slice.k);
  if (bytes && !as_is)
    bytes = kernels::packed_bytes(view.dtype, static_cast<std::int32_t>(rows), static_cast<std::int32_t>(width))
                .and_then([&](std::size_t) { return kernels::packed_bytes(packed, slice.n, slice.k); });
  if (!bytes) return fail(std::move(bytes).error().with_context(name + " in " + tensor->source));
  jobs_.push_back({tensor, scale, &target, slice, part.first_column, packed, total_});
  jobs_.back().slice.first_row = first_row;
  total_ += (*bytes + kAlignment - 1) / kAlignment * kAlignment;
  return {};
}

TensorPart WeightPacking::part_of(const NamedTensor& tensor) const {
  const Shape& shape = tensor.view.shape;
  if (plan_ != nullptr) return plan_->part(tensor.name, shape);
  const std::int64_t columns = shape.rank() == 1 ? 1 : shape.inner(), rows = shape.elements() / columns;
  return {.rows = rows, .columns = columns, .all_rows = rows, .all_columns = columns};
}

Status WeightPacking::row(const std::string& name, std::int32_t count, FloatRow& out) const {
  const NamedTensor* tensor = checkpoint_.find(name);
  HP_CHECK(tensor != nullptr && tensor->view.shape.rank() == 1, "row '{}' has not been checked", name);
  const TensorPart part = part_of(*tensor);
  HP_CHECK(part.rows == count, "{} elements of '{}' {}", count, name, tensor->view.shape.to_string());
  const DType type = tensor->view.dtype;
  if (type != DType::f32 && type != DType::f16 && type != DType::bf16)
    return fail(ErrorCode::unsupported, "tensor '{}' in {} is of type {}, expected f32, f16 or bf16", name,
                tensor->source, traits(type).name);
  out.resize(z(count));
  kernels::dequantize(type, tensor->view.data + storage_bytes(type, z(part.first_row)), out.size(), out.data());
  return {};
}

// Elements [first, first + count) of a row; first and count are multiples of the type's block.
void WeightPacking::source_row(const Job& job, std::int64_t row, std::int64_t first, float* out,
                               std::int64_t count) const {
  const TensorView& view = job.tensor->view;
  const std::size_t at = storage_bytes(view.dtype, z(row * view.shape.inner() + first));
  if (is_compressed(*job.tensor)) {
    std::vector<std::byte> blocks(storage_bytes(view.dtype, z(count)));
    compressed_rows(checkpoint_, *job.tensor, row, 1, blocks, {.first = first, .columns = count});
    kernels::dequantize(view.dtype, blocks.data(), z(count), out);
    return;
  }
  kernels::dequantize(view.dtype, view.data + at, z(count), out);
  if (job.scale == nullptr) return;
  const std::int64_t rows = checkpoint_.config().fp8_block_rows, columns = checkpoint_.config().fp8_block_columns;
  for (std::int64_t i = 0; i < count; ++i) out[i] *= scale_at(job.scale->view, row / rows, (first + i) / columns);
}

/// Of the blocks that the slice lies in: [rows / block rows, columns / block columns], rounded up.
std::vector<float> WeightPacking::scales_of(const Job& job) const {
  const MatrixSlice& s = job.slice;
  const std::int64_t rows = checkpoint_.config().fp8_block_rows, columns = checkpoint_.config().fp8_block_columns;
  std::vector<float> scales;
  for (std::int64_t r = s.first_row / rows; r <= (s.first_row + s.n - 1) / rows; ++r)
    for (std::int64_t c = job.first_column / columns; c <= (job.first_column + s.k - 1) / columns; ++c)
      scales.push_back(scale_at(job.scale->view, r, c));
  return scales;
}

template <typename Read>
void WeightPacking::pack_by_panels(const Job& job, Range panels, std::byte* out, const Read& read) const {
  const MatrixSlice& s = job.slice;
  const std::size_t panel_bytes = kernels::packed_view(job.packed, s.n, s.k, out).panel_bytes;
  const std::int64_t block_rows = checkpoint_.config().fp8_block_rows, width = checkpoint_.config().fp8_block_columns;
  const std::vector<float> scales = job.scale != nullptr ? scales_of(job) : std::vector<float>();
  std::vector<std::byte> rows;
  for (std::size_t p = panels.begin; p < panels.end; ++p) {
    const std::int64_t first = static_cast<std::int64_t>(p) * kernels::kPanelColumns;
    const std::int64_t count = std::min<std::int64_t>(kernels::kPanelColumns, s.n - first);
    rows.resize(storage_bytes(job.packed, z(count * s.k)));
    read(s.first_row + first, count, rows);
    kernels::BlockScales blocks;
    if (!scales.empty())
      blocks = {.data = scales.data() + z(first / block_rows * ((s.k + width - 1) / width)),
                .rows = static_cast<std::int32_t>(block_rows),
                .columns = static_cast<std::int32_t>(width)};
    kernels::pack_panels({.dtype = job.packed, .shape = {count, s.k}, .data = rows.data()}, 0, 1, out + p * panel_bytes,
                         blocks);
  }
}

void WeightPacking::pack(const Job& job, int member, int members, std::byte* out) const {
  const MatrixSlice& s = job.slice;
  const TensorView& view = job.tensor->view;
  const Range own = split_range(z(panels_of(s.n)), member, members);
  if (own.begin >= own.end) return;
  const bool as_is = !s.transposed && job.packed == view.dtype;
  if (as_is && is_compressed(*job.tensor)) {
    return pack_by_panels(job, own, out, [&](std::int64_t first, std::int64_t count, std::vector<std::byte>& rows) {
      compressed_rows(checkpoint_, *job.tensor, first, count, rows, {.first = job.first_column, .columns = s.k});
    });
  }
  if (as_is && s.k != view.shape.inner()) {
    const std::size_t row_bytes = storage_bytes(view.dtype, z(view.shape.inner())),
                      part = storage_bytes(view.dtype, z(s.k));
    const std::byte* const from = view.data + storage_bytes(view.dtype, z(job.first_column));
    return pack_by_panels(job, own, out, [&](std::int64_t first, std::int64_t count, std::vector<std::byte>& rows) {
      for (std::int64_t r = 0; r < count; ++r)
        std::memcpy(rows.data() + z(r) * part, from + z(first + r) * row_bytes, part);
    });
  }
  if (as_is) {
    const TensorView part{
        .dtype = view.dtype, .shape = {s.n, s.k}, .data = view.data + storage_bytes(view.dtype, z(s.first_row * s.k))};
    std::vector<float> scales;
    kernels::BlockScales blocks;
    if (job.scale != nullptr) {
      scales = scales_of(job);
      blocks = {.data = scales.data(),
                .rows = checkpoint_.config().fp8_block_rows,
                .columns = checkpoint_.config().fp8_block_columns};
    }
    kernels::pack_panels(part, static_cast<std::int32_t>(own.begin), static_cast<std::int32_t>(own.end), out, blocks);
    return;
  }
  std::vector<float> source(z(s.transposed ? std::int64_t{s.n} * s.k : s.k)), line(z(s.k));
  for (std::int64_t r = 0; s.transposed && r < s.k; ++r)
    source_row(job, s.first_row + r, job.first_column, source.data() + r * s.n, s.n);
  const std::size_t row_bytes = storage_bytes(job.packed, z(s.k));
  const std::size_t panel_bytes = kernels::packed_view(job.packed, s.n, s.k, out).panel_bytes;
  std::vector<std::byte> rows(row_bytes * z(kernels::kPanelColumns));
  for (std::size_t p = own.begin; p < own.end; ++p) {
    const std::int64_t first = static_cast<std::int64_t>(p) * kernels::kPanelColumns;
    const std::int64_t count = std::min<std::int64_t>(kernels::kPanelColumns, s.n - first);
    for (std::int64_t r = 0; r < count; ++r) {
      if (s.transposed) {
        for (std::int64_t j = 0; j < s.k; ++j) line[z(j)] = source[z(j * s.n + first + r)];
      } else {
        source_row(job, s.first_row + first + r, job.first_column, line.data(), s.k);
      }
      store_row(job.packed, line.data(), line.size(), rows.data() + z(r) * row_bytes);
    }
    kernels::pack_panels({.dtype = job.packed, .shape = {count, s.k}, .data = rows.data()}, 0, 1,
                         out + p * panel_bytes);
  }
}

Result<Buffer> WeightPacking::pack_all(ParallelTeam& team) const {
  HP_TRY(Buffer buffer, Buffer::allocate(total_));
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    const Job& job = jobs_[i];
    std::byte* const out = buffer.data() + job.offset;
    team.run([&](int member) { pack(job, member, team.size(), out); });
    *job.target = kernels::packed_view(job.packed, job.slice.n, job.slice.k, out);
    if (i + 1 == jobs_.size() || jobs_[i + 1].tensor != job.tensor) checkpoint_.release(*job.tensor);
  }
  return buffer;
}

}  // namespace hp
