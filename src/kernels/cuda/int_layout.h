// How a weight of 4 or 8 bits lies on the device: in tiles of 64 rows × 128 of K, each thread's operands of the tensor
// instruction side by side, and the tile's scales behind its codes, so that one copy brings all that a step needs.
// Plain values: the host's tests read it too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hp::cuda {

/// Weight = scale · code: one scale per row and `group` of K. Codes of 4 bits are -8 … 7, of 8 bits -128 … 127.
struct IntForm {
  int bits = 0;   ///< 0: not whole numbers
  int group = 0;  ///< 32, 64 or 128
};

inline constexpr int kIntRows = 64, kIntStep = 128;  ///< of a tile
inline constexpr int kIntUnit = 32;                  ///< K that a thread's words cover

/// In checkpoints and on the way to the device a row's codes lie in sequence: of 8 bits a signed byte each, of 4 bits
/// code + 8 in a nibble, the first of two lower.
constexpr std::size_t int_row_bytes(int bits, int k) {
  return static_cast<std::size_t>(k) * static_cast<std::size_t>(bits) / 8U;
}

constexpr int int_code_bytes(int bits) {
  return kIntRows * kIntStep * bits / 8;
}
constexpr int int_tile_bytes(IntForm form) {
  return int_code_bytes(form.bits) + kIntRows * (kIntStep / form.group) * 4;
}
constexpr int int_steps(int k) {
  return (k + kIntStep - 1) / kIntStep;
}
/// Tiles of a row of tiles follow each other, step by step.
constexpr std::size_t int_tile_at(IntForm form, int k, int row, int column) {
  const auto tile = static_cast<std::size_t>(row / kIntRows) * static_cast<std::size_t>(int_steps(k)) +
                    static_cast<std::size_t>(column / kIntStep);
  return tile * static_cast<std::size_t>(int_tile_bytes(form));
}
constexpr std::size_t int_weight_bytes(IntForm form, int n, int k) {
  return int_tile_at(form, k, (n + kIntRows - 1) / kIntRows * kIntRows, 0);
}

/// Where a code lies in its tile. The instruction's operand of a thread: rows r and r + 8 of each 16, columns c, c + 1,
/// c + 8, c + 9 of each 16. A byte holds codes of one row only.
struct IntPlace {
  int byte, shift;  ///< shift: 0, or 4 for the upper nibble
};
constexpr IntPlace int_place(int bits, int row, int column) {
  const int r = row % kIntRows, k = column % kIntStep;
  const int thread = r / 16 * 32 + r % 8 * 4 + k % 8 / 2, lower_half = r % 16 / 8, odd = k % 2;
  const int right = k % 16 / 8, step = k % kIntUnit / 16;
  const int at = k / kIntUnit * (kIntRows * kIntUnit * bits / 8) + thread * 2 * bits;
  if (bits == 4) return {at + step * 4 + 2 * odd + lower_half, 4 * right};
  return {at + (2 * step + lower_half) * 4 + 2 * odd + right, 0};
}
constexpr int int_scale_at(IntForm form, int row, int column) {
  return int_code_bytes(form.bits) + (column % kIntStep / form.group * kIntRows + row % kIntRows) * 4;
}

}  // namespace hp::cuda
