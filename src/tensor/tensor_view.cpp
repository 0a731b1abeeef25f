#include "tensor/tensor_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"

namespace hp {

Shape::Shape(std::initializer_list<std::int64_t> dims) : Shape(from(std::span(dims.begin(), dims.size()))) {}

Shape Shape::from(std::span<const std::int64_t> dims) {
  HP_CHECK(dims.size() <= kMaxRank, "rank {}", dims.size());
  Shape shape;
  std::copy(dims.begin(), dims.end(), shape.dims_.begin());
  shape.rank_ = static_cast<int>(dims.size());
  return shape;
}

std::int64_t Shape::elements() const {
  std::int64_t count = 1;
  for (int i = 0; i < rank_; ++i)
    HP_CHECK(!__builtin_mul_overflow(count, (*this)[i], &count), "{} has too many elements", to_string());
  return count;
}

std::string Shape::to_string() const {
  return fmt::format("[{}]", fmt::join(std::span(dims_).first(static_cast<std::size_t>(rank_)), ", "));
}

}  // namespace hp
