#include "tensor/dtype.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace hp {
namespace {

constexpr std::array kTraits = {
    DTypeTraits{"f32", 1, 4, false},     DTypeTraits{"f16", 1, 2, false},     DTypeTraits{"bf16", 1, 2, false},
    DTypeTraits{"f8_e4m3", 1, 1, false}, DTypeTraits{"f8_e5m2", 1, 1, false}, DTypeTraits{"f8_e8m0", 1, 1, false},
    DTypeTraits{"f64", 1, 8, false},     DTypeTraits{"i8", 1, 1, false},      DTypeTraits{"u8", 1, 1, false},
    DTypeTraits{"i16", 1, 2, false},     DTypeTraits{"i32", 1, 4, false},     DTypeTraits{"i64", 1, 8, false},
    DTypeTraits{"q4_0", 32, 18, true},   DTypeTraits{"q4_1", 32, 20, true},   DTypeTraits{"q5_0", 32, 22, true},
    DTypeTraits{"q5_1", 32, 24, true},   DTypeTraits{"q8_0", 32, 34, true},   DTypeTraits{"q2_k", 256, 84, true},
    DTypeTraits{"q3_k", 256, 110, true}, DTypeTraits{"q4_k", 256, 144, true}, DTypeTraits{"q5_k", 256, 176, true},
    DTypeTraits{"q6_k", 256, 210, true}, DTypeTraits{"iq4_nl", 32, 18, true}, DTypeTraits{"iq4_xs", 256, 136, true},
    DTypeTraits{"i4_32", 32, 24, true},  DTypeTraits{"i4_64", 64, 40, true},  DTypeTraits{"i4_128", 128, 72, true},
    DTypeTraits{"i8_32", 32, 36, true},
};
static_assert(kTraits.size() == static_cast<std::size_t>(DType::i8_32) + 1);

}  // namespace

const DTypeTraits& traits(DType type) {
  return kTraits[static_cast<std::size_t>(type)];
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kTraits.size(); ++i)
    if (kTraits[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

std::size_t storage_bytes(DType type, std::size_t elements) {
  const DTypeTraits& t = traits(type);
  HP_CHECK(elements % t.block_size == 0, "{} elements of {} (blocks of {})", elements, t.name, t.block_size);
  return elements / t.block_size * t.block_bytes;
}

float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

std::uint16_t f32_to_bf16(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  if (v != v) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16, exponent = bits >> 10 & 31U, mantissa = bits & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000U | mantissa << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

std::uint16_t f32_to_f16(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const std::uint32_t sign = bits >> 16 & 0x8000U, magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | (magnitude >> 13 & 0x1FFU));
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // rounds past 65504
  if (magnitude < 0x38800000U) {  // subnormal: the sum with 0.5 rounds to a multiple of 2^-24 in its low mantissa bits
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  const std::uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1) - 0x38000000U;
  return static_cast<std::uint16_t>(sign | rounded >> 13);
}

float f8_e4m3_to_f32(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  float magnitude = 0.0F;
  if (exponent == 15 && mantissa == 7) {
    magnitude = std::bit_cast<float>(0x7FC00000U);
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  }
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

float f8_e8m0_to_f32(std::uint8_t bits) {
  if (bits == 0xFF) return std::bit_cast<float>(0x7FC00000U);
  return bits == 0 ? 0x1p-127F : std::bit_cast<float>(std::uint32_t{bits} << 23);
}

std::uint8_t f32_to_f8_e4m3(float v) {
  const auto sign = static_cast<std::uint8_t>(std::signbit(v) ? 0x80 : 0);
  if (v != v) return sign | 0x7F;
  const float magnitude = std::fabs(v);
  if (magnitude >= 448.0F) return sign | 0x7E;
  if (magnitude == 0.0F) return sign;  // frexp gives zero no exponent to scale by
  if (magnitude == 0.0F) return sign;
  int exponent = 0;
  std::frexp(magnitude, &exponent);              // magnitude in [0.5, 1) · 2^exponent
  const int scale = std::max(exponent - 4, -9);  // 4 significant bits, no finer than 2^-9
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -scale)));
  if (scale == -9) return static_cast<std::uint8_t>(sign | steps);  // 8 steps are the first normal number: same bits
  return static_cast<std::uint8_t>(sign | (((scale + 10) << 3) + steps - 8));
}

}  // namespace hp
