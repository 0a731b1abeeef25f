// The packed layout of weights, shared by every ISA: panels of 16 columns, K in sequence inside a panel.
//
// Quantized formats come in chunks of K as long as the source's block (32, 64, 128 or 256). A chunk holds, each at its
// offset, the scales of its 16 columns and groups of 32 of K. A group is 8 quads: 16 columns × 4 consecutive k, stored
// unsigned, a byte lane of 64 bytes for every column and k % 4:
//   low_bits 8   8 × 64 bytes
//   low_bits 4   4 × 64 bytes; register j holds quad j in the low nibbles and quad j + 4 in the high ones
//   low_bits 2   2 × 64 bytes; quad j at bit 2 · (j % 4) of register j / 4
//   high_bits 1  then 64 bytes, quad j at bit j;  high_bits 2: then 2 × 64 bytes as low_bits 2
// Bits per weight: q2_k 2.6, q3_k 3.6, iq4_xs 4.4, q4_0 and iq4_nl 4.5, q4_k 4.6, q4_1 5, q5_0 5.5, q5_k 5.6, q5_1 6,
// q6_k 6.6, q8_0 8.5, i8_32 9, i4_32 5.25, i4_64 4.6, i4_128 4.3, f8_e4m3 8.25.
//
//   f8_e4m3           chunks of 128 of K: 16 f32 scales, then 16 columns per k
//   bf16              pairs of k × 16 columns per 64 bytes; an odd K is padded with zeros
//   f16, f32          16 columns per k
#pragma once

#include <array>

#include "kernels/params.h"

namespace hp::kernels {

enum class PanelKind : std::uint8_t { quants, f8, bf16, f16, f32 };

/// What a chunk's scales are, in this order, 16 columns each, and what a stored quant q means.
enum class ScaleForm : std::uint8_t {
  none,
  half,           ///< d f16:                                                 d · (q - zero)
  half_min,       ///< d, m f16:                                              d · q + m
  k_bytes,        ///< d, dmin f16; per group s, m u8:                        d · s · q - dmin · m
  k_nibbles,      ///< d, dmin f16; per 16 of K s | m << 4:                   d · s · q - dmin · m
  k_signed,       ///< d f16, 32 bytes unused; per 16 of K s i8:              d · s · (q - zero)
  k_signed_wide,  ///< d f16, 32 bytes unused; per group s i8:                d · s · (q - zero)
  full,           ///< d f32:                                                 d · (q - zero)
  full_zero,      ///< d f32, zero u8:                                        d · (q - zero)
};

struct PanelLayout {
  PanelKind kind = PanelKind::f32;
  ScaleForm scales = ScaleForm::none;
  bool lookup = false;  ///< a stored quant is an index of kIq4Values; zero is then of the value + 128
  std::uint8_t low_bits = 0, high_bits = 0;
  std::int32_t zero = 0;
  std::size_t chunk_k = 1;                                          ///< K of a chunk
  std::size_t chunk_bytes = 64;                                     ///< from one chunk to the next
  std::size_t quant_offset = 0, quant_bytes = 0, scale_offset = 0;  ///< of a chunk; quant_bytes per group
};

/// Values of the 16 indices of iq4_nl and iq4_xs.
inline constexpr std::array<std::int8_t, 16> kIq4Values = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                           1,    13,   25,  38,  53,  69,  89,  113};
/// K that shares one scale in packed f8_e4m3.
inline constexpr std::size_t kF8ChunkK = 128;

constexpr std::size_t scale_bytes(ScaleForm form, std::size_t groups) {
  switch (form) {
    case ScaleForm::none:
      return 0;
    case ScaleForm::half:
      return 32;
    case ScaleForm::half_min:
      return 2 * 32;
    case ScaleForm::k_bytes:
    case ScaleForm::k_nibbles:
    case ScaleForm::k_signed:
      return 2 * 32 + groups * 2 * 16;
    case ScaleForm::k_signed_wide:
      return 2 * 32 + groups * 16;
    case ScaleForm::full:
      return 64;
    case ScaleForm::full_zero:
      return 64 + 16;
  }
  return 0;
}

/// Blocks of 256 keep their scales before the quants (one pass of prefetch), smaller ones behind them.
constexpr PanelLayout quant_layout(std::size_t chunk_k, int low, int high, ScaleForm form, std::int32_t zero,
                                   bool lookup = false) {
  PanelLayout l{.kind = PanelKind::quants,
                .scales = form,
                .lookup = lookup,
                .low_bits = static_cast<std::uint8_t>(low),
                .high_bits = static_cast<std::uint8_t>(high),
                .zero = zero,
                .chunk_k = chunk_k};
  const std::size_t groups = chunk_k / 32;
  const std::size_t scales = scale_bytes(form, groups);
  l.quant_bytes = static_cast<std::size_t>(low + high) * 64;
  l.quant_offset = chunk_k == 256 ? scales : 0;
  l.scale_offset = chunk_k == 256 ? 0 : groups * l.quant_bytes;
  l.chunk_bytes = scales + groups * l.quant_bytes;
  return l;
}

constexpr PanelLayout panel_layout(DType source) {
  switch (source) {
    case DType::q4_0:
      return quant_layout(32, 4, 0, ScaleForm::half, 8);
    case DType::q4_1:
      return quant_layout(32, 4, 0, ScaleForm::half_min, 0);
    case DType::q5_0:
      return quant_layout(32, 4, 1, ScaleForm::half, 16);
    case DType::q5_1:
      return quant_layout(32, 4, 1, ScaleForm::half_min, 0);
    case DType::q8_0:
      return quant_layout(32, 8, 0, ScaleForm::half, 128);
    case DType::q2_k:
      return quant_layout(256, 2, 0, ScaleForm::k_nibbles, 0);
    case DType::q3_k:
      return quant_layout(256, 2, 1, ScaleForm::k_signed, 4);
    case DType::q4_k:
      return quant_layout(256, 4, 0, ScaleForm::k_bytes, 0);
    case DType::q5_k:
      return quant_layout(256, 4, 1, ScaleForm::k_bytes, 0);
    case DType::q6_k:
      return quant_layout(256, 4, 2, ScaleForm::k_signed, 32);
    case DType::iq4_nl:
      return quant_layout(32, 4, 0, ScaleForm::half, 128, true);
    case DType::iq4_xs:
      return quant_layout(256, 4, 0, ScaleForm::k_signed_wide, 128, true);
    case DType::i4_32:
      return quant_layout(32, 4, 0, ScaleForm::full_zero, 0);
    case DType::i4_64:
      return quant_layout(64, 4, 0, ScaleForm::full_zero, 0);
    case DType::i4_128:
      return quant_layout(128, 4, 0, ScaleForm::full_zero, 0);
    case DType::i8_32:
      return quant_layout(32, 8, 0, ScaleForm::full, 128);
    case DType::f8_e4m3:
      return {
          .kind = PanelKind::f8, .scales = ScaleForm::full, .chunk_k = kF8ChunkK, .chunk_bytes = 64 + kF8ChunkK * 16};
    case DType::bf16:
      return {.kind = PanelKind::bf16, .chunk_bytes = 32};
    case DType::f16:
      return {.kind = PanelKind::f16, .chunk_bytes = 32};
    default:
      return {.kind = PanelKind::f32, .chunk_bytes = 64};
  }
}

}  // namespace hp::kernels
