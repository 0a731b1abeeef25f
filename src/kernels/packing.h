// The packed layout of weights, shared by every ISA: panels of 16 columns, K in sequence inside a panel.
//
//   q4_0, q4_1, q8_0  per group of 32 of K: quants, then 16 f16 scales d, then (q4_1) 16 f16 minimums m.
//     bytes (q8_0)    8 k-quads of 64 bytes: 16 columns × 4 consecutive k, stored unsigned (q + 128)
//     nibbles (q4)    4 × 64 bytes; register j holds quad j in the low nibbles and quad j + 4 in the high ones
//                     w = d · (q - zero) with zero 128 or 8, or d · q + m
//   bf16              pairs of k × 16 columns per 64 bytes; an odd K is padded with zeros
//   f16               16 columns per k
//   everything else   floats, 16 columns per k. K-quants and 5-bit formats cost 4 bytes per weight this way: exact, not
//                     compact.
#pragma once

#include "kernels/params.h"

namespace hp::kernels {

enum class PanelKind { nibbles, bytes, bf16, f16, f32 };

struct PanelLayout {
  PanelKind kind = PanelKind::f32;
  bool has_min = false;          ///< d · q + m rather than d · (q - zero)
  float zero = 0.0F;             ///< of quantized kinds without a minimum
  std::size_t group_bytes = 0;   ///< bytes per kQuantGroup of K (whole groups only for quantized kinds)
  std::size_t scale_offset = 0;  ///< of d within a group
};

PanelLayout panel_layout(DType source);
std::size_t panel_bytes(DType source, std::int32_t k);

/// Floats [k_count, 16] of one panel from `k_begin`, which is a multiple of kQuantGroup; k_count ≤ kQuantGroup.
void unpack_group(const PackedMatrix& weight, std::int32_t panel, std::int32_t k_begin, std::int32_t k_count,
                  float* out);

}  // namespace hp::kernels
