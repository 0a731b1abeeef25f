// Cosines and sines of rotary positions, precomputed for every position a model may see. Owns the frequency formulas
// (plain, linear, llama3, YaRN); how pairs lie in a head is the kernel's `interleaved` flag.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model_config.h"

namespace hp {

struct RopeTable {
  std::int32_t pairs = 0;
  std::vector<float> cos, sin;  // [positions, pairs]

  [[nodiscard]] const float* cos_at(std::int32_t position) const { return cos.data() + offset(position); }
  [[nodiscard]] const float* sin_at(std::int32_t position) const { return sin.data() + offset(position); }

 private:
  [[nodiscard]] std::size_t offset(std::int32_t position) const {
    return static_cast<std::size_t>(position) * static_cast<std::size_t>(pairs);
  }
};

/// Radians per position of every pair, after scaling.
std::vector<double> rope_frequencies(const RopeConfig& config);

/// What YaRN multiplies cosines and sines with; 1 for every other scaling.
double rope_magnitude(const RopeConfig& config);

RopeTable build_rope_table(const RopeConfig& config, std::int32_t positions);

}  // namespace hp
