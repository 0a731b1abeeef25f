// Element types of tensors in files and in memory, and their sizes: the one table about bytes per element.
// Quantized types store elements in blocks along the innermost dimension (layouts: quant_blocks.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace hp {

enum class DType : std::uint8_t {
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,  ///< powers of two, for scales
  f64,
  i8,
  u8,
  i16,
  i32,
  i64,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  // Ours, in memory only: f32 scale, u8 zero, 3 bytes unused, then nibbles (element 2i low), w = scale · (q - zero);
  // what compressed-tensors checkpoints with int4 weights are read into.
  i4_32,
  i4_64,
  i4_128,
  i8_32,  ///< f32 scale, then 32 signed bytes
};

struct DTypeTraits {
  std::string_view name;     ///< as people write it: "bf16", "q4_k"
  std::uint32_t block_size;  ///< elements per block; 1 for plain types
  std::uint32_t block_bytes;
  bool quantized;  ///< blocks with their own scales
};

const DTypeTraits& traits(DType type);
std::optional<DType> dtype_from_name(std::string_view name);

/// Bytes of `elements` elements; `elements` must be a multiple of the block size.
std::size_t storage_bytes(DType type, std::size_t elements);

// Scalar conversions, exact or round-to-nearest-even as the format says.
float bf16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_bf16(float v);  ///< NaN stays a NaN
float f16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_f16(float v);
float f8_e4m3_to_f32(std::uint8_t bits);  ///< OCP e4m3fn: no infinity, 0x7f is NaN
std::uint8_t f32_to_f8_e4m3(float v);     ///< saturates at ±448
float f8_e8m0_to_f32(std::uint8_t bits);  ///< 2^(bits - 127); 0xff is NaN

}  // namespace hp
