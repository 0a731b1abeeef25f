// Packs weights into panels. Layout: panel_layout.h; the bytes of the source formats: dequantize.cpp.
#include "kernels/packing.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kernels/kernel_table.h"

namespace hp::kernels {
namespace {

using Byte = std::uint8_t;
using Quads = std::array<std::uint32_t, 8>;

constexpr auto kCols = static_cast<std::size_t>(kPanelColumns);
constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);
constexpr std::size_t kHalfRow = kCols * sizeof(std::uint16_t);
constexpr std::size_t kFloatRow = kCols * sizeof(float);
constexpr std::uint32_t kNibbles = 0x0F0F0F0FU;
constexpr std::uint32_t kPairs = 0x03030303U;
constexpr std::uint32_t kOnes = 0x01010101U;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

std::uint32_t word(const Byte* p) {
  std::uint32_t v = 0;
  std::memcpy(&v, p, 4);
  return v;
}

/// Four consecutive bits into the lowest bits of four bytes.
std::uint32_t spread(std::uint32_t bits) {
  return ((bits & 15U) * 0x00204081U) & kOnes;
}

/// 32 nibbles, elements 0–15 low and 16–31 high; `high` has a fifth bit for each element.
Quads halves(const Byte* qs, std::uint32_t high) {
  Quads q{};
  for (std::size_t j = 0; j < 8; ++j) {
    q[j] = ((word(qs + (j % 4) * 4) >> (j < 4 ? 0U : 4U)) & kNibbles) | spread(high >> (4 * j)) << 4U;
  }
  return q;
}

/// 32 bytes from `low` and `high`, shifted and masked into place, joined.
Quads planes(const Byte* low, std::size_t low_shift, std::uint32_t low_mask, const Byte* high, std::size_t high_shift,
             std::uint32_t high_mask, unsigned to) {
  Quads q{};
  for (std::size_t j = 0; j < 8; ++j) {
    q[j] = ((word(low + j * 4) >> low_shift) & low_mask) | ((word(high + j * 4) >> high_shift) & high_mask) << to;
  }
  return q;
}

Quads signed_bytes(const Byte* p) {
  Quads q{};
  for (std::size_t j = 0; j < 8; ++j) q[j] = word(p + j * 4) ^ 0x80808080U;
  return q;
}

Quads nibbles_in_sequence(const Byte* p) {
  Quads q{};
  for (std::size_t j = 0; j < 8; ++j, p += 2) {
    q[j] = (p[0] & 15U) | (p[0] >> 4U) << 8U | (p[1] & 15U) << 16U | static_cast<std::uint32_t>(p[1] >> 4U) << 24U;
  }
  return q;
}

/// Unsigned quants of group g of a source block.
Quads source_quads(DType source, const Byte* b, std::size_t g) {
  switch (source) {
    case DType::q4_0:
    case DType::iq4_nl:
      return halves(b + 2, 0);
    case DType::q4_1:
      return halves(b + 4, 0);
    case DType::q5_0:
      return halves(b + 6, word(b + 2));
    case DType::q5_1:
      return halves(b + 8, word(b + 4));
    case DType::q8_0:
      return signed_bytes(b + 2);
    case DType::i8_32:
      return signed_bytes(b + 4);
    case DType::q2_k:
      return planes(b + 16 + (g / 4) * 32, 2 * (g % 4), kPairs, b, 0, 0, 0);
    case DType::q3_k:
      return planes(b + 32 + (g / 4) * 32, 2 * (g % 4), kPairs, b, g, kOnes, 2);
    case DType::q4_k:
      return planes(b + 16 + (g / 2) * 32, 4 * (g % 2), kNibbles, b, 0, 0, 0);
    case DType::q5_k:
      return planes(b + 48 + (g / 2) * 32, 4 * (g % 2), kNibbles, b + 16, g, kOnes, 4);
    case DType::q6_k:
      return planes(b + (g / 4) * 64 + (g % 2) * 32, 4 * (g % 4 / 2), kNibbles, b + 128 + (g / 4) * 32, 2 * (g % 4),
                    kPairs, 4);
    case DType::iq4_xs:
      return halves(b + 8 + g * 16, 0);
    case DType::i4_32:
    case DType::i4_64:
    case DType::i4_128:
      return nibbles_in_sequence(b + 8 + g * 16);
    default:
      HP_CHECK(false, "no packing of {}", traits(source).name);
  }
}

/// Scales and minimums of q4_k and q5_k: 8 of 6 bits each.
void pack_k_bytes(const Byte* s, Byte* out) {
  for (std::size_t g = 0; g < 8; ++g, out += 2 * kCols) {
    const bool low = g < 4;
    out[0] = static_cast<Byte>(low ? s[g] & 63U : (s[g + 4] & 15U) | (s[g - 4] >> 6U) << 4U);
    out[kCols] = static_cast<Byte>(low ? s[g + 4] & 63U : s[g + 4] >> 4U | (s[g] >> 6U) << 4U);
  }
}

Byte q3_scale(const Byte* s, std::size_t i) {
  const unsigned low = i < 8 ? s[i] & 15U : s[i - 8] >> 4U;
  return static_cast<Byte>((low | ((s[8 + i % 4] >> (2 * (i / 4))) & 3U) << 4U) - 32U);
}

Byte iq4_scale(const Byte* b, std::size_t g) {
  const unsigned high = static_cast<unsigned>(b[2] | b[3] << 8);
  return static_cast<Byte>((((b[4 + g / 2] >> (4 * (g % 2))) & 15U) | ((high >> (2 * g)) & 3U) << 4U) - 32U);
}

/// Scales of a source block into column `column` of a chunk's scales.
void pack_scales(DType source, ScaleForm form, const Byte* b, std::size_t column, Byte* out) {
  Byte* const small = out + 2 * kHalfRow + column;
  switch (form) {
    case ScaleForm::half_min:
      std::memcpy(out + kHalfRow + column * 2, b + 2, 2);
      [[fallthrough]];
    case ScaleForm::half:
      std::memcpy(out + column * 2, b, 2);
      return;
    case ScaleForm::k_bytes:
      std::memcpy(out + column * 2, b, 2);
      std::memcpy(out + kHalfRow + column * 2, b + 2, 2);
      return pack_k_bytes(b + 4, small);
    case ScaleForm::k_nibbles:
      std::memcpy(out + column * 2, b + 80, 2);
      std::memcpy(out + kHalfRow + column * 2, b + 82, 2);
      for (std::size_t i = 0; i < 16; ++i) small[i * kCols] = b[i];
      return;
    case ScaleForm::k_signed:
      std::memcpy(out + column * 2, b + (source == DType::q6_k ? 208 : 108), 2);
      for (std::size_t i = 0; i < 16; ++i) small[i * kCols] = source == DType::q6_k ? b[192 + i] : q3_scale(b + 96, i);
      return;
    case ScaleForm::k_signed_wide:
      std::memcpy(out + column * 2, b, 2);
      for (std::size_t g = 0; g < 8; ++g) small[g * kCols] = iq4_scale(b, g);
      return;
    case ScaleForm::full_zero:
      out[kFloatRow + column] = b[4];
      [[fallthrough]];
    case ScaleForm::full:
      std::memcpy(out + column * 4, b, 4);
      return;
    case ScaleForm::none:
      return;
  }
}

struct Packer {
  DType source;
  PanelLayout layout;
  std::size_t k;
  BlockScales scales;
  std::vector<float> buffer;

  void quants(const Byte* row, std::size_t column, Byte* panel) const {
    for (std::size_t i = 0; i < k / layout.chunk_k;
         ++i, row += traits(source).block_bytes, panel += layout.chunk_bytes) {
      pack_scales(source, layout.scales, row, column, panel + layout.scale_offset);
      for (std::size_t g = 0; g < layout.chunk_k / kGroup; ++g) {
        store_quads(layout, source_quads(source, row, g), column, panel + layout.quant_offset + g * layout.quant_bytes);
      }
    }
  }

  void f8(const Byte* row, std::size_t n, std::size_t column, Byte* panel) const {
    const std::size_t blocks_across = scales.data == nullptr ? 0 : (k + z(scales.columns) - 1) / z(scales.columns);
    for (std::size_t k0 = 0; k0 < k; k0 += kF8ChunkK, panel += layout.chunk_bytes) {
      float scale = 1.0F;
      if (scales.data != nullptr) scale = scales.data[n / z(scales.rows) * blocks_across + k0 / z(scales.columns)];
      std::memcpy(panel + column * 4, &scale, 4);
      const std::size_t count = std::min(kF8ChunkK, k - k0);
      for (std::size_t i = 0; i < count; ++i) panel[kFloatRow + i * kCols + column] = row[k0 + i];
    }
  }

  void floats(const Byte* row, std::size_t column, Byte* panel) {
    if (layout.kind == PanelKind::f32) {
      buffer.resize(k);
      dequantize(source, reinterpret_cast<const std::byte*>(row), k, buffer.data());
      for (std::size_t i = 0; i < k; ++i) std::memcpy(panel + (i * kCols + column) * 4, &buffer[i], 4);
      return;
    }
    for (std::size_t i = 0; i < k; ++i) std::memcpy(panel + (i * kCols + column) * 2, row + i * 2, 2);
  }
};

/// Pairs of k of up to 16 rows side by side, some lines of every row at a time, so that both ends stay in the first
/// cache.
void pack_pairs(const Byte* rows, std::size_t row_bytes, std::size_t columns, std::size_t k, Byte* panel) {
  constexpr std::size_t kPair = 4, kTogether = 32;
  for (std::size_t first = 0; first < k / 2; first += kTogether) {
    const std::size_t end = std::min(first + kTogether, k / 2);
    for (std::size_t c = 0; c < columns; ++c) {
      for (std::size_t p = first; p < end; ++p) {
        std::memcpy(panel + (p * kCols + c) * kPair, rows + c * row_bytes + p * kPair, kPair);
      }
    }
  }
  if (k % 2 == 0) return;
  for (std::size_t c = 0; c < columns; ++c) {
    std::memcpy(panel + (k / 2 * kCols + c) * kPair, rows + c * row_bytes + (k - 1) * 2, 2);
  }
}

}  // namespace

void pack_panels(const TensorView& weight, std::int32_t panel_begin, std::int32_t panel_end, std::byte* out,
                 const BlockScales& scales) {
  HP_CHECK(weight.shape.rank() == 2, "weight {}", weight.shape.to_string());
  const std::size_t n = z(weight.shape[0]);
  const std::size_t k = z(weight.shape[1]);
  HP_CHECK(scales.data == nullptr ||
               (weight.dtype == DType::f8_e4m3 && (z(scales.columns) % kF8ChunkK == 0 || z(scales.columns) >= k)),
           "scales of {} columns for {} [{}, {}]", scales.columns, traits(weight.dtype).name, n, k);
  Packer packer{.source = weight.dtype, .layout = panel_layout(weight.dtype), .k = k, .scales = scales, .buffer = {}};
  const std::size_t stride = panel_bytes(weight.dtype, static_cast<std::int32_t>(k));
  const std::size_t row_bytes = storage_bytes(weight.dtype, k);
  for (std::size_t p = z(panel_begin); p < z(panel_end); ++p) {
    auto* panel = reinterpret_cast<Byte*>(out) + p * stride;
    std::memset(panel, 0, stride);
    if (packer.layout.kind == PanelKind::bf16) {
      pack_pairs(reinterpret_cast<const Byte*>(weight.data) + p * kCols * row_bytes, row_bytes,
                 std::min(kCols, n - p * kCols), k, panel);
      continue;
    }
    for (std::size_t c = 0; c < kCols && p * kCols + c < n; ++c) {
      const auto* row = reinterpret_cast<const Byte*>(weight.data) + (p * kCols + c) * row_bytes;
      if (packer.layout.kind == PanelKind::quants) {
        packer.quants(row, c, panel);
      } else if (packer.layout.kind == PanelKind::f8) {
        packer.f8(row, p * kCols + c, c, panel);
      } else {
        packer.floats(row, c, panel);
      }
    }
  }
}

}  // namespace hp::kernels
