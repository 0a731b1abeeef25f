#include "model/quantize_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tensor/dtype.h"

namespace hp {
namespace {

constexpr int kScaleSteps = 16;           // candidates per group, from the full range down to two thirds of it
constexpr float kSmallestFactor = 0.65F;  // below, clipping costs more than rounding gains on any group seen

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

int nearest(float w, float inverse, int low, int high) {
  return std::clamp(static_cast<int>(std::lrintf(w * inverse)), low, high);
}

double weighted_error(std::span<const float> w, std::span<const float> importance, float scale, double bound) {
  const float inverse = 1.0F / scale;
  double sum = 0.0;
  for (std::size_t i = 0; i < w.size() && sum < bound; ++i) {
    const float e = static_cast<float>(nearest(w[i], inverse, -8, 7)) * scale - w[i];
    sum += static_cast<double>(e) * e * (importance.empty() ? 1.0F : importance[i]);
  }
  return sum;
}

/// A bf16 scale for a group; 0 when all of it is 0.
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

QuantError quantize_fp8(std::span<const float> w, std::int64_t k, std::span<std::uint8_t> q, std::span<float> scales) {
  QuantError total;
  const std::size_t width = z(k), rows = w.size() / width;
  for (std::size_t c0 = 0, block = 0; c0 < width; c0 += z(kFp8Block), ++block) {
    const std::size_t c1 = std::min(width, c0 + z(kFp8Block));
    float largest = 0.0F;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = c0; c < c1; ++c) largest = std::max(largest, std::fabs(w[r * width + c]));
    }
    const float scale = largest >= kFp8Largest * std::numeric_limits<float>::min() ? largest / kFp8Largest : 1.0F;
    scales[block] = scale;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = r * width + c0; i < r * width + c1; ++i) {
        q[i] = f32_to_f8_e4m3(w[i] / scale);
        total.add(w[i], f8_e4m3_to_f32(q[i]) * scale);
      }
    }
  }
  return total;
}

QuantError quantize_int4(std::span<const float> w, std::int64_t group, std::span<const float> importance,
                         std::span<std::uint32_t> words, std::span<std::uint16_t> scales) {
  QuantError total;
  std::fill(words.begin(), words.end(), 0U);
  for (std::size_t first = 0, g = 0; first < w.size(); first += z(group), ++g) {
    const auto part = w.subspan(first, z(group));
    const auto weights = importance.empty() ? importance : importance.subspan(first, z(group));
    const float scale = best_scale(part, weights);
    const float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
    scales[g] = f32_to_bf16(scale);
    for (std::size_t i = 0; i < part.size(); ++i) {
      const int q = nearest(part[i], inverse, -8, 7);
      const std::size_t at = first + i;
      words[at / 8] |= static_cast<std::uint32_t>(q + 8) << (4 * (at % 8));
      total.add(part[i], static_cast<float>(q) * scale);
    }
  }
  return total;
}

QuantError quantize_int8(std::span<const float> w, std::span<std::int8_t> q, float& scale) {
  QuantError total;
  float largest = 0.0F;
  for (const float v : w) largest = std::max(largest, std::fabs(v));
  scale = largest / 127.0F;
  const float inverse = scale >= std::numeric_limits<float>::min() ? 1.0F / scale : 0.0F;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const int v = nearest(w[i], inverse, -127, 127);
    q[i] = static_cast<std::int8_t>(v);
    total.add(w[i], static_cast<float>(v) * scale);
  }
  return total;
}

}  // namespace hp
