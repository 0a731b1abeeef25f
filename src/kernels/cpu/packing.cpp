// Packs weights into panels and reads them back. Layout: packing.h.
#include "kernels/packing.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/kernel_table.h"

namespace hp::kernels {
namespace {

constexpr auto kCols = static_cast<std::size_t>(kPanelColumns);
constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);
constexpr std::size_t kHalfRow = kCols * sizeof(std::uint16_t);

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// Stored (unsigned) quant of element i of a block of 32.
std::uint8_t stored_quant(DType source, const std::uint8_t* b, std::size_t i) {
  if (source == DType::q8_0) return static_cast<std::uint8_t>(b[2 + i] ^ 0x80U);
  const std::uint8_t* qs = b + (source == DType::q4_1 ? 4 : 2);
  return static_cast<std::uint8_t>(i < 16 ? qs[i] & 15U : qs[i - 16] >> 4U);
}

void pack_block(DType source, const PanelLayout& l, const std::uint8_t* b, std::size_t column, std::uint8_t* out) {
  for (std::size_t i = 0; i < kGroup; ++i) {
    const std::uint8_t q = stored_quant(source, b, i);
    const std::size_t quad = i / 4;
    if (l.kind == PanelKind::bytes) {
      out[quad * 64 + column * 4 + i % 4] = q;
    } else {
      std::uint8_t& at = out[(quad % 4) * 64 + column * 4 + i % 4];
      at = static_cast<std::uint8_t>(quad < 4 ? q : at | (q << 4U));
    }
  }
  std::memcpy(out + l.scale_offset + column * 2, b, 2);
  if (l.has_min) std::memcpy(out + l.scale_offset + kHalfRow + column * 2, b + 2, 2);
}

void pack_floats(DType source, PanelKind kind, const std::uint8_t* row, std::size_t k, std::size_t column,
                 std::vector<float>& buffer, std::uint8_t* out) {
  if (kind == PanelKind::f32) {
    dequantize(source, reinterpret_cast<const std::byte*>(row), k, buffer.data());
    for (std::size_t i = 0; i < k; ++i) std::memcpy(out + (i * kCols + column) * 4, &buffer[i], 4);
    return;
  }
  for (std::size_t i = 0; i < k; ++i) {
    const std::size_t at = kind == PanelKind::bf16 ? (i / 2) * kCols * 2 + column * 2 + i % 2 : i * kCols + column;
    std::memcpy(out + at * 2, row + i * 2, 2);
  }
}

float load_half(const std::uint8_t* p) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, p, 2);
  return f16_to_f32(bits);
}

void unpack_quants(const PanelLayout& l, const std::uint8_t* g, float* out) {
  for (std::size_t c = 0; c < kCols; ++c) {
    const float d = load_half(g + l.scale_offset + c * 2);
    const float m = l.has_min ? load_half(g + l.scale_offset + kHalfRow + c * 2) : 0.0F;
    for (std::size_t i = 0; i < kGroup; ++i) {
      const std::size_t quad = i / 4;
      unsigned q = 0;
      if (l.kind == PanelKind::bytes) {
        q = g[quad * 64 + c * 4 + i % 4];
      } else {
        const unsigned both = g[(quad % 4) * 64 + c * 4 + i % 4];
        q = quad < 4 ? both & 15U : both >> 4U;
      }
      out[i * kCols + c] = d * (static_cast<float>(q) - l.zero) + m;
    }
  }
}

}  // namespace

PanelLayout panel_layout(DType source) {
  switch (source) {
    case DType::q4_0:
      return {.kind = PanelKind::nibbles, .zero = 8.0F, .group_bytes = 256 + kHalfRow, .scale_offset = 256};
    case DType::q4_1:
      return {.kind = PanelKind::nibbles, .has_min = true, .group_bytes = 256 + 2 * kHalfRow, .scale_offset = 256};
    case DType::q8_0:
      return {.kind = PanelKind::bytes, .zero = 128.0F, .group_bytes = 512 + kHalfRow, .scale_offset = 512};
    case DType::bf16:
      return {.kind = PanelKind::bf16, .group_bytes = kGroup * kHalfRow};
    case DType::f16:
      return {.kind = PanelKind::f16, .group_bytes = kGroup * kHalfRow};
    default:
      return {.kind = PanelKind::f32, .group_bytes = kGroup * kCols * sizeof(float)};
  }
}

std::size_t panel_bytes(DType source, std::int32_t k) {
  const PanelLayout l = panel_layout(source);
  switch (l.kind) {
    case PanelKind::nibbles:
    case PanelKind::bytes:
      return z(k) / kGroup * l.group_bytes;
    case PanelKind::bf16:
      return (z(k) + 1) / 2 * 2 * kHalfRow;
    case PanelKind::f16:
      return z(k) * kHalfRow;
    case PanelKind::f32:
      break;
  }
  return z(k) * kCols * sizeof(float);
}

Result<std::size_t> packed_bytes(DType source, std::int32_t n, std::int32_t k) {
  switch (source) {
    case DType::f8_e5m2:
    case DType::f8_e8m0:
    case DType::f64:
    case DType::i8:
    case DType::u8:
    case DType::i16:
    case DType::i32:
    case DType::i64:
      return fail(ErrorCode::unsupported, "weights of type {} cannot be multiplied; expected a float or quantized type",
                  traits(source).name);
    default:
      break;
  }
  if (n <= 0 || k <= 0 || z(k) % traits(source).block_size != 0) {
    return fail(ErrorCode::invalid_argument, "weight [{}, {}] of {}: expected positive sizes, columns in blocks of {}",
                n, k, traits(source).name, traits(source).block_size);
  }
  return (z(n) + kCols - 1) / kCols * panel_bytes(source, k);
}

PackedMatrix packed_view(DType source, std::int32_t n, std::int32_t k, const std::byte* data) {
  return {.source = source, .n = n, .k = k, .panel_bytes = panel_bytes(source, k), .data = data};
}

void pack_panels(const TensorView& weight, std::int32_t panel_begin, std::int32_t panel_end, std::byte* out) {
  HP_CHECK(weight.shape.rank() == 2, "weight {}", weight.shape.to_string());
  const std::size_t n = z(weight.shape[0]);
  const std::size_t k = z(weight.shape[1]);
  const PanelLayout l = panel_layout(weight.dtype);
  const bool quants = l.kind == PanelKind::nibbles || l.kind == PanelKind::bytes;
  const std::size_t stride = panel_bytes(weight.dtype, static_cast<std::int32_t>(k));
  const std::size_t row_bytes = storage_bytes(weight.dtype, k);
  std::vector<float> buffer(l.kind == PanelKind::f32 ? k : 0);
  for (std::size_t p = z(panel_begin); p < z(panel_end); ++p) {
    auto* panel = reinterpret_cast<std::uint8_t*>(out) + p * stride;
    std::memset(panel, 0, stride);
    for (std::size_t c = 0; c < kCols && p * kCols + c < n; ++c) {
      const auto* row = reinterpret_cast<const std::uint8_t*>(weight.data) + (p * kCols + c) * row_bytes;
      if (!quants) {
        pack_floats(weight.dtype, l.kind, row, k, c, buffer, panel);
        continue;
      }
      for (std::size_t g = 0; g < k / kGroup; ++g) {
        pack_block(weight.dtype, l, row + g * traits(weight.dtype).block_bytes, c, panel + g * l.group_bytes);
      }
    }
  }
}

void unpack_group(const PackedMatrix& weight, std::int32_t panel, std::int32_t k_begin, std::int32_t k_count,
                  float* out) {
  const PanelLayout l = panel_layout(weight.source);
  const auto* g = reinterpret_cast<const std::uint8_t*>(weight.data) + z(panel) * weight.panel_bytes +
                  z(k_begin) / kGroup * l.group_bytes;
  const std::size_t count = z(k_count) * kCols;
  switch (l.kind) {
    case PanelKind::nibbles:
    case PanelKind::bytes:
      unpack_quants(l, g, out);
      return;
    case PanelKind::f32:
      std::memcpy(out, g, count * sizeof(float));
      return;
    case PanelKind::f16:
      for (std::size_t i = 0; i < count; ++i) out[i] = load_half(g + i * 2);
      return;
    case PanelKind::bf16:
      break;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t k = i / kCols;
    std::uint16_t bits = 0;
    std::memcpy(&bits, g + ((k / 2) * kCols * 2 + (i % kCols) * 2 + k % 2) * 2, 2);
    out[i] = bf16_to_f32(bits);
  }
}

}  // namespace hp::kernels
