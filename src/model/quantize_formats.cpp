#include "model/quantize_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "tensor/dtype.h"

namespace hp {
namespace {

constexpr int kScaleSteps = 16;           // candidates per group, from the full range down to two thirds of it
constexpr float kSmallestFactor = 0.65F;  // below, clipping costs more than rounding gains on any group seen

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

float inverse_of(float scale) {
  return scale >= std::numeric_limits<float>::min() ? 1.0F / scale : 0.0F;
}

int nearest_level(float w, float inverse, int low, int high) {
  return std::clamp(static_cast<int>(std::lrintf(w * inverse)), low, high);
}

double weighted_error(std::span<const float> w, std::span<const float> importance, float scale, double bound) {
  const float inverse = 1.0F / scale;
  double sum = 0.0;
  for (std::size_t i = 0; i < w.size() && sum < bound; ++i) {
    const float e = static_cast<float>(nearest_level(w[i], inverse, -8, 7)) * scale - w[i];
    sum += static_cast<double>(e) * e * (importance.empty() ? 1.0F : importance[i]);
  }
  return sum;
}

/// A bf16 scale for a group of int4; 0 when all of it is 0.
float best_scale(std::span<const float> w, std::span<const float> importance) {
  const auto [low, high] = std::minmax_element(w.begin(), w.end());
  const float full = std::max(*high / 7.0F, -*low / 8.0F);
  float best = 0.0F;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kScaleSteps; ++i) {
    const float factor = 1.0F - (1.0F - kSmallestFactor) * static_cast<float>(i) / (kScaleSteps - 1);
    const float scale = bf16_to_f32(f32_to_bf16(full * factor));
    if (!(scale > 0.0F) || !std::isfinite(1.0F / scale)) return best;
    const double error = weighted_error(w, importance, scale, least);
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

}  // namespace

std::string_view to_string(WeightStorage storage) {
  constexpr std::array<std::string_view, 4> kNames = {"unchanged", "fp8", "int8", "int4"};
  return kNames[static_cast<std::size_t>(storage)];
}

WeightGrid::WeightGrid(WeightStorage storage, std::int64_t k, std::int64_t group)
    : storage_(storage),
      k_(z(k)),
      rows_(storage == WeightStorage::fp8 ? z(kFp8Block) : 1),
      columns_(storage == WeightStorage::fp8    ? z(kFp8Block)
               : storage == WeightStorage::int4 ? z(group)
                                                : k_),
      across_((k_ + columns_ - 1) / columns_) {
  HP_CHECK(storage != WeightStorage::copy, "a matrix that is copied has no grid");
}

void WeightGrid::fit(std::span<const float> w, std::span<const float> importance, std::size_t begin, std::size_t end) {
  const std::size_t rows = w.size() / k_;
  scales_.resize((rows + rows_ - 1) / rows_ * across_);
  for (std::size_t first = 0; first < rows; first += rows_) {
    for (std::size_t c = begin; c < end; c += columns_) {
      const std::size_t width = std::min(columns_, end - c);
      float& scale = scales_[first / rows_ * across_ + c / columns_];
      if (storage_ == WeightStorage::int4) {
        scale = best_scale(w.subspan(first * k_ + c, width),
                           importance.empty() ? importance : importance.subspan(c, width));
        continue;
      }
      float largest = 0.0F;
      for (std::size_t r = first; r < std::min(rows, first + rows_); ++r) {
        for (const float v : w.subspan(r * k_ + c, width)) largest = std::max(largest, std::fabs(v));
      }
      const bool fp8 = storage_ == WeightStorage::fp8;
      scale = largest / (fp8 ? kFp8Largest : 127.0F);
      if (fp8 && scale < std::numeric_limits<float>::min()) scale = 1.0F;
    }
  }
}

int WeightGrid::level(std::size_t row, std::size_t column, float w) const {
  const bool four = storage_ == WeightStorage::int4;
  return nearest_level(w, inverse_of(scale(row, column)), four ? -8 : -127, four ? 7 : 127);
}

float WeightGrid::nearest(std::size_t row, std::size_t column, float w) const {
  const float s = scale(row, column);
  if (storage_ == WeightStorage::fp8)
    return f8_e4m3_to_f32(f32_to_f8_e4m3(std::clamp(w / s, -kFp8Largest, kFp8Largest))) * s;
  return static_cast<float>(level(row, column, w)) * s;
}

std::size_t WeightGrid::value_bytes(std::size_t rows) const {
  return storage_ == WeightStorage::int4 ? rows * k_ / 2 : rows * k_;
}
std::size_t WeightGrid::scale_bytes(std::size_t rows) const {
  return (rows + rows_ - 1) / rows_ * across_ * (storage_ == WeightStorage::int4 ? 2 : 4);
}

void WeightGrid::store(std::span<const float> rounded, std::span<std::byte> values, std::span<std::byte> scales) const {
  std::fill(values.begin(), values.end(), std::byte{0});
  for (std::size_t i = 0; i < rounded.size(); ++i) {
    const std::size_t row = i / k_, column = i % k_;
    if (storage_ == WeightStorage::fp8) {
      values[i] = static_cast<std::byte>(f32_to_f8_e4m3(rounded[i] / scale(row, column)));
    } else if (storage_ == WeightStorage::int8) {
      values[i] = static_cast<std::byte>(level(row, column, rounded[i]));
    } else {
      values[i / 2] |= static_cast<std::byte>((level(row, column, rounded[i]) + 8) << (4 * (i % 2)));
    }
  }
  for (std::size_t i = 0; i < scales_.size(); ++i) {
    if (storage_ == WeightStorage::int4) {
      const std::uint16_t bits = f32_to_bf16(scales_[i]);
      std::memcpy(scales.data() + i * 2, &bits, 2);
    } else {
      std::memcpy(scales.data() + i * 4, &scales_[i], 4);
    }
  }
}

void WeightGrid::load(std::span<const std::byte> values, std::span<const std::byte> scales, std::span<float> out) {
  const std::size_t width = storage_ == WeightStorage::int4 ? 2 : 4;
  scales_.resize(scales.size() / width);
  for (std::size_t i = 0; i < scales_.size(); ++i) {
    std::uint16_t bits = 0;
    if (width == 4) std::memcpy(&scales_[i], scales.data() + i * 4, 4);
    if (width == 2) std::memcpy(&bits, scales.data() + i * 2, 2);
    if (width == 2) scales_[i] = bf16_to_f32(bits);
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    float v = 0.0F;
    if (storage_ == WeightStorage::fp8) {
      v = f8_e4m3_to_f32(static_cast<std::uint8_t>(values[i]));
    } else if (storage_ == WeightStorage::int8) {
      v = static_cast<float>(static_cast<std::int8_t>(values[i]));
    } else {
      v = static_cast<float>(static_cast<int>(static_cast<std::uint8_t>(values[i / 2]) >> (4 * (i % 2)) & 15U) - 8);
    }
    out[i] = v * scale(i / k_, i % k_);
  }
}

}  // namespace hp
