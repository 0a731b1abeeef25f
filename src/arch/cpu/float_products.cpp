#include "arch/cpu/float_products.h"

#include <algorithm>

namespace hp {
namespace {

constexpr std::size_t kColumns = kernels::kPanelColumns;

std::size_t panels_of(const kernels::PackedMatrix& w) {
  return (static_cast<std::size_t>(w.n) + kColumns - 1) / kColumns;
}

}  // namespace

Status FloatProducts::pack(const Strided& source, const Strided& minus, std::size_t n, std::size_t k,
                           PanelRoom& out) const {
  const auto rows = static_cast<std::int32_t>(n), width = static_cast<std::int32_t>(k);
  HP_TRY(const std::size_t bytes, kernels::packed_bytes(DType::f32, rows, width));
  if (out.memory.size() < bytes) {
    HP_TRY(out.memory, Buffer::allocate(bytes));
  }
  out.view = kernels::packed_view(DType::f32, rows, width, out.memory.data());
  run(8 * n * k, [&](int member) {
    const Range own = split_range(panels_of(out.view), member, team_.size());
    for (std::size_t p = own.begin; p < own.end; ++p) {
      auto* to = reinterpret_cast<float*>(out.memory.data() + p * out.view.panel_bytes);
      const std::size_t first = p * kColumns, count = std::min(kColumns, n - first);
      for (std::size_t j = 0; j < k; ++j, to += kColumns) {
        const float* const from = source.data + first * source.row + j * source.column;
        for (std::size_t c = 0; c < count; ++c) to[c] = from[c * source.row];
        std::fill(to + count, to + kColumns, 0.0F);
        if (minus.data == nullptr) continue;
        const float* const less = minus.data + first * minus.row + j * minus.column;
        for (std::size_t c = 0; c < count; ++c) to[c] -= less[c * minus.row];
      }
    }
  });
  return {};
}

void FloatProducts::multiply(const float* x, std::size_t rows, const PanelRoom& w, float* out, std::size_t out_stride,
                             bool add) const {
  run(rows * static_cast<std::size_t>(w.view.n) * static_cast<std::size_t>(w.view.k), [&](int member) {
    const Range own = split_range(panels_of(w.view), member, team_.size());
    if (own.begin >= own.end || rows == 0) return;
    table_.matmul({.operand = {.kind = kernels::OperandKind::f32,
                               .rows = static_cast<std::int32_t>(rows),
                               .k = w.view.k,
                               .f32 = x},
                   .m = static_cast<std::int32_t>(rows),
                   .weight = w.view,
                   .out = out,
                   .out_stride = out_stride,
                   .accumulate = add,
                   .panel_begin = static_cast<std::int32_t>(own.begin),
                   .panel_end = static_cast<std::int32_t>(own.end)});
  });
}

void FloatProducts::multiply_alone(const float* x, std::size_t rows, const kernels::PackedMatrix& w, float* out,
                                   std::size_t out_stride, bool add) const {
  table_.matmul(
      {.operand = {.kind = kernels::OperandKind::f32, .rows = static_cast<std::int32_t>(rows), .k = w.k, .f32 = x},
       .m = static_cast<std::int32_t>(rows),
       .weight = w,
       .out = out,
       .out_stride = out_stride,
       .accumulate = add,
       .panel_begin = 0,
       .panel_end = static_cast<std::int32_t>(panels_of(w))});
}

}  // namespace hp
