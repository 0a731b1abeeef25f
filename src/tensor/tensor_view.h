// A tensor that somebody else owns: dtype, shape, bytes. Row-major; the last dimension is contiguous.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "tensor/dtype.h"

namespace hp {

/// Up to four dimensions, outermost first: a weight that maps K inputs to N outputs is [N, K]; experts are [E, N, K].
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  static Shape from(std::span<const std::int64_t> dims);

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] std::int64_t inner() const { return rank_ == 0 ? 1 : dims_[static_cast<std::size_t>(rank_ - 1)]; }
  [[nodiscard]] std::string to_string() const;  ///< "[576, 1536]"
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

struct TensorView {
  DType dtype = DType::f32;
  Shape shape;
  const std::byte* data = nullptr;  ///< at least storage_bytes(dtype, shape.elements()) bytes

  [[nodiscard]] std::size_t bytes() const { return storage_bytes(dtype, static_cast<std::size_t>(shape.elements())); }
};

}  // namespace hp
