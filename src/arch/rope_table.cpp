#include "arch/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace hp {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

// "Llama 3.1" rule: long waves are stretched by `factor`, short ones kept, those between interpolated.
double llama3_frequency(const RopeConfig& c, double frequency) {
  const double original = c.original_context;
  const double wave = kTwoPi / frequency;
  if (wave < original / c.high_freq_factor) return frequency;
  if (wave > original / c.low_freq_factor) return frequency / c.factor;
  const double smooth = (original / wave - c.low_freq_factor) / (double{c.high_freq_factor} - c.low_freq_factor);
  return (1.0 - smooth) * frequency / c.factor + smooth * frequency;
}

// The pair whose wave turns `rotations` times over the original context (YaRN, arXiv 2309.00071, section 3.2).
double yarn_pair(const RopeConfig& c, double rotations) {
  return c.dims * std::log(c.original_context / (rotations * kTwoPi)) / (2.0 * std::log(double{c.theta}));
}

void scale_yarn(const RopeConfig& c, std::vector<double>& frequencies) {
  const double last = c.dims - 1;
  const double low = std::clamp(std::floor(yarn_pair(c, c.beta_fast)), 0.0, last);
  double high = std::clamp(std::ceil(yarn_pair(c, c.beta_slow)), 0.0, last);
  if (high <= low) high = low + 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / c.factor * stretched + frequencies[i] * (1.0 - stretched);
  }
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& config) {
  HP_CHECK(config.dims > 0 && config.dims % 2 == 0, "rope over {} dimensions", config.dims);
  const auto pairs = static_cast<std::size_t>(config.dims / 2);
  const std::vector<float>& divisors = config.frequency_divisors;
  HP_CHECK(divisors.empty() || divisors.size() == pairs, "{} divisors for {} pairs", divisors.size(), pairs);
  std::vector<double> out(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    out[i] = std::pow(double{config.theta}, -2.0 * static_cast<double>(i) / config.dims);
    if (!divisors.empty()) out[i] /= divisors[i];
  }
  switch (config.scaling) {
    case RopeConfig::Scaling::none:
      break;
    case RopeConfig::Scaling::linear:
      for (double& f : out) f /= config.factor;
      break;
    case RopeConfig::Scaling::llama3:  // a file that brings divisors has the rule in them already
      if (divisors.empty())
        std::ranges::transform(out, out.begin(), [&](double f) { return llama3_frequency(config, f); });
      break;
    case RopeConfig::Scaling::yarn:
      scale_yarn(config, out);
      break;
  }
  return out;
}

double rope_magnitude(const RopeConfig& config) {
  if (config.scaling != RopeConfig::Scaling::yarn) return 1.0;
  if (config.attention_factor) return *config.attention_factor;
  if (config.mscale > 0.0F)  // DeepseekV2YarnRotaryEmbedding; an absent mscale_all_dim divides by 1
    return yarn_mscale(config.factor, config.mscale) / yarn_mscale(config.factor, config.mscale_all_dim);
  return yarn_mscale(config.factor, 1.0);
}

RopeTable build_rope_table(const RopeConfig& config, std::int32_t positions) {
  const std::vector<double> frequencies = rope_frequencies(config);
  const double magnitude = rope_magnitude(config);
  RopeTable table;
  table.pairs = config.dims / 2;
  table.cos.reserve(frequencies.size() * static_cast<std::size_t>(positions));
  table.sin.reserve(frequencies.size() * static_cast<std::size_t>(positions));
  for (std::int32_t p = 0; p < positions; ++p) {
    for (const double f : frequencies) {
      table.cos.push_back(static_cast<float>(std::cos(p * f) * magnitude));
      table.sin.push_back(static_cast<float>(std::sin(p * f) * magnitude));
    }
  }
  return table;
}

}  // namespace hp
