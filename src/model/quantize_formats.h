// Rows of floats into the weight formats that `homeport quantize` writes, and how far off they end. Pure functions; the
// layouts are those of the published checkpoints: DeepSeek's fp8 blocks, compressed-tensors' int4 and int8.
#pragma once

#include <cstdint>
#include <span>

namespace hp {

inline constexpr std::int64_t kFp8Block = 128;
inline constexpr float kFp8Largest = 448.0F;

/// Sums over weights and their errors; relative error = sqrt(error / size).
struct QuantError {
  double error = 0.0, size = 0.0;  ///< Σ (w' - w)², Σ w²
  void add(float w, float stored) {
    error += (static_cast<double>(stored) - w) * (static_cast<double>(stored) - w);
    size += static_cast<double>(w) * w;
  }
};

/// Up to 128 rows [rows, k] as e4m3 with one scale per 128 columns (w ≈ q · scale, largest element at ±448).
QuantError quantize_fp8(std::span<const float> w, std::int64_t k, std::span<std::uint8_t> q, std::span<float> scales);

/// One row in symmetric groups: q in [-8, 7] stored as q + 8, eight to a word, the first lowest. Scales are bf16
/// values, searched for the least squared error, weighted by `importance` [k] when that is not empty.
QuantError quantize_int4(std::span<const float> w, std::int64_t group, std::span<const float> importance,
                         std::span<std::uint32_t> words, std::span<std::uint16_t> scales);

/// One row with one scale, q in [-127, 127].
QuantError quantize_int8(std::span<const float> w, std::span<std::int8_t> q, float& scale);

}  // namespace hp
