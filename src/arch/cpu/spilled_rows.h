// Rows of floats that may be larger than memory: they lie in an unnamed file that is mapped, and what has been used can
// be let go. Owns the mapping and, through it, the file.
#pragma once

#include <cstddef>
#include <filesystem>

#include "base/result.h"

namespace hp {

class SpilledRows {
 public:
  /// Zeros. The disk's room is taken at once: an error says what is missing.
  static Result<SpilledRows> make(const std::filesystem::path& folder, std::size_t rows, std::size_t width);
  SpilledRows() = default;
  SpilledRows(SpilledRows&& other) noexcept;
  SpilledRows& operator=(SpilledRows&& other) noexcept;
  SpilledRows(const SpilledRows&) = delete;
  SpilledRows& operator=(const SpilledRows&) = delete;
  ~SpilledRows();

  [[nodiscard]] std::size_t rows() const { return rows_; }
  [[nodiscard]] std::size_t width() const { return width_; }
  [[nodiscard]] float* row(std::size_t i) { return data_ + i * width_; }
  [[nodiscard]] const float* row(std::size_t i) const { return data_ + i * width_; }
  /// Large ones stop counting as resident; the values stay.
  void release() const;

 private:
  float* data_ = nullptr;
  std::size_t rows_ = 0, width_ = 0;
};

}  // namespace hp
