// The weight formats that `homeport quantize` writes, as grids of values: scales for a stripe of rows, the nearest
// value of the grid, the bytes that are stored. Who rounds, and towards what, is the caller's business. The layouts are
// those of the published checkpoints: DeepSeek's fp8 blocks, compressed-tensors' int4 and int8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace hp {

inline constexpr std::int64_t kFp8Block = 128;
inline constexpr float kFp8Largest = 448.0F;

/// fp8: e4m3 in blocks of 128 × 128 with f32 scales. int8: a f32 scale per row, q in [-127, 127]. int4: groups with a
/// bf16 scale, q in [-8, 7] stored as q + 8, eight to a word, the first lowest.
enum class WeightStorage { copy, fp8, int8, int4 };
std::string_view to_string(WeightStorage storage);

/// Sums over weights and their errors; relative error = sqrt(error / size).
struct QuantError {
  double error = 0.0, size = 0.0;  ///< Σ (w' - w)², Σ w²
  void add(float w, float stored) {
    error += (static_cast<double>(stored) - w) * (static_cast<double>(stored) - w);
    size += static_cast<double>(w) * w;
  }
  void add(const QuantError& other) {
    error += other.error;
    size += other.size;
  }
};

/// The grid of up to 128 rows [rows, k] that begin at a multiple of 128.
class WeightGrid {
 public:
  WeightGrid(WeightStorage storage, std::int64_t k, std::int64_t group);

  /// Chooses the scales of the columns [begin, end) for w [rows, k]. Both lie between two scales, or at the row's ends.
  /// int4's are searched for the least squared error, weighted by `importance` [k] unless that is empty.
  void fit(std::span<const float> w, std::span<const float> importance, std::size_t begin, std::size_t end);
  void fit(std::span<const float> w, std::span<const float> importance = {}) { fit(w, importance, 0, k_); }
  /// A row has one scale: it cannot be fitted in parts.
  [[nodiscard]] bool whole_rows() const { return columns_ == k_; }

  [[nodiscard]] float nearest(std::size_t row, std::size_t column, float w) const;

  [[nodiscard]] std::size_t value_bytes(std::size_t rows) const;
  [[nodiscard]] std::size_t scale_bytes(std::size_t rows) const;
  /// `rounded` [rows, k] holds values of the grid; the spans have the sizes above.
  void store(std::span<const float> rounded, std::span<std::byte> values, std::span<std::byte> scales) const;
  /// The other way: takes over the scales.
  void load(std::span<const std::byte> values, std::span<const std::byte> scales, std::span<float> out);

 private:
  [[nodiscard]] float scale(std::size_t row, std::size_t column) const {
    return scales_[row / rows_ * across_ + column / columns_];
  }
  [[nodiscard]] int level(std::size_t row, std::size_t column, float w) const;  ///< of the integer formats

  WeightStorage storage_;
  std::size_t k_, rows_, columns_, across_;  ///< a scale's rows and columns; scales across a row
  std::vector<float> scales_;
};

}  // namespace hp
