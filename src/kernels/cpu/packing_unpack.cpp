// Reads packed weights back as floats, the same bits that dequantize gives. Layout: panel_layout.h.
#include <algorithm>
#include <cstring>

#include "kernels/packing.h"

namespace hp::kernels {
namespace {

using Byte = std::uint8_t;

constexpr auto kCols = static_cast<std::size_t>(kPanelColumns);
constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);
constexpr std::size_t kHalfRow = kCols * sizeof(std::uint16_t);
constexpr std::size_t kFloatRow = kCols * sizeof(float);

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

float load_half(const Byte* p) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, p, 2);
  return f16_to_f32(bits);
}
float load_float(const Byte* p) {
  float v = 0;
  std::memcpy(&v, p, 4);
  return v;
}
float real(int v) {
  return static_cast<float>(v);
}

/// w = d[i / 16] · (q - zero) + min[i / 16] for element i of a group.
struct Scales {
  std::array<float, 2> d{}, min{};
  float zero = 0.0F;
};

Scales load_scales(const PanelLayout& l, const Byte* s, std::size_t group, std::size_t c) {
  const Byte* two = s + 2 * kHalfRow + group * 2 * kCols + c;  // of forms with two rows of small scales per group
  Scales out{.zero = real(l.zero)};
  switch (l.scales) {
    case ScaleForm::half:
      out.d.fill(load_half(s + c * 2));
      break;
    case ScaleForm::half_min:
      out.d.fill(load_half(s + c * 2));
      out.min.fill(load_half(s + kHalfRow + c * 2));
      break;
    case ScaleForm::k_bytes:
      out.d.fill(load_half(s + c * 2) * real(two[0]));
      out.min.fill(-(load_half(s + kHalfRow + c * 2) * real(two[kCols])));
      break;
    case ScaleForm::k_nibbles:
      for (std::size_t h = 0; h < 2; ++h) {
        out.d[h] = load_half(s + c * 2) * real(two[h * kCols] & 15);
        out.min[h] = -(load_half(s + kHalfRow + c * 2) * real(two[h * kCols] >> 4));
      }
      break;
    case ScaleForm::k_signed:
      for (std::size_t h = 0; h < 2; ++h) {
        out.d[h] = load_half(s + c * 2) * real(static_cast<std::int8_t>(two[h * kCols]));
      }
      break;
    case ScaleForm::k_signed_wide:
      out.d.fill(load_half(s + c * 2) * real(static_cast<std::int8_t>(s[2 * kHalfRow + group * kCols + c])));
      break;
    case ScaleForm::full_zero:
      out.zero = real(s[kFloatRow + c]);
      [[fallthrough]];
    case ScaleForm::full:
      out.d.fill(load_float(s + c * 4));
      break;
    case ScaleForm::none:
      break;
  }
  return out;
}

void unpack_quants(const PanelLayout& l, const Byte* panel, std::size_t k_begin, std::size_t c, float* out,
                   std::size_t stride) {
  const Byte* chunk = panel + k_begin / l.chunk_k * l.chunk_bytes;
  const std::size_t group = k_begin % l.chunk_k / kGroup;
  const Scales s = load_scales(l, chunk + l.scale_offset, group, c);
  const std::array<std::uint32_t, 8> quads = load_quads(l, chunk + l.quant_offset + group * l.quant_bytes, c);
  const bool has_min =
      l.scales == ScaleForm::half_min || l.scales == ScaleForm::k_bytes || l.scales == ScaleForm::k_nibbles;
  for (std::size_t i = 0; i < kGroup; ++i) {
    const std::uint32_t q = (quads[i / 4] >> (8 * (i % 4))) & 255U;
    const float v = l.lookup ? real(kIq4Values[q]) : static_cast<float>(q) - s.zero;
    const float scaled = s.d[i / 16] * v;
    out[i * stride] = has_min ? scaled + s.min[i / 16] : scaled;  // + 0 would turn -0 into 0
  }
}

}  // namespace

void unpack_column(const PackedMatrix& weight, std::int32_t column, std::int32_t k_begin, std::int32_t k_count,
                   float* out, std::size_t stride) {
  const PanelLayout l = panel_layout(weight.source);
  const std::size_t c = z(column) % kCols;
  const auto* panel = reinterpret_cast<const Byte*>(weight.data) + z(column) / kCols * weight.panel_bytes;
  if (l.kind == PanelKind::quants) return unpack_quants(l, panel, z(k_begin), c, out, stride);
  const Byte* f8_chunk = panel + z(k_begin) / kF8ChunkK * l.chunk_bytes;
  for (std::size_t i = 0; i < z(k_count); ++i) {
    const std::size_t k = z(k_begin) + i;
    float& to = out[i * stride];
    switch (l.kind) {
      case PanelKind::f8:
        to = f8_e4m3_to_f32(f8_chunk[kFloatRow + k % kF8ChunkK * kCols + c]) * load_float(f8_chunk + c * 4);
        break;
      case PanelKind::bf16: {
        std::uint16_t bits = 0;
        std::memcpy(&bits, panel + ((k / 2) * kCols * 2 + c * 2 + k % 2) * 2, 2);
        to = bf16_to_f32(bits);
        break;
      }
      case PanelKind::f16:
        to = load_half(panel + (k * kCols + c) * 2);
        break;
      default:
        to = load_float(panel + (k * kCols + c) * 4);
    }
  }
}

void unpack_group(const PackedMatrix& weight, std::int32_t panel, std::int32_t k_begin, std::int32_t k_count,
                  float* out) {
  for (std::int32_t c = 0; c < kPanelColumns; ++c) {
    unpack_column(weight, panel * kPanelColumns + c, k_begin, k_count, out + c, kCols);
  }
}

}  // namespace hp::kernels
