// The definition of every weight format: bytes of a file to floats. Layouts follow the published GGUF block formats.
// Deliberately plain scalar code; fast paths elsewhere are tested against it.
#include <array>
#include <cstring>

#include "base/check.h"
#include "kernels/kernel_table.h"
#include "kernels/packing.h"

namespace hp::kernels {
namespace {

using Byte = std::uint8_t;

std::uint16_t u16(const Byte* p) {
  return static_cast<std::uint16_t>(p[0] | (p[1] << 8));
}
float half(const Byte* p) {
  return f16_to_f32(u16(p));
}
float real(int v) {
  return static_cast<float>(v);
}

void q4(const Byte* b, bool has_min, float* y) {
  const float d = half(b);
  const float m = has_min ? half(b + 2) : 0.0F;
  const Byte* qs = b + (has_min ? 4 : 2);
  const int zero = has_min ? 0 : 8;
  for (int j = 0; j < 16; ++j) {
    y[j] = d * real((qs[j] & 15) - zero) + m;
    y[j + 16] = d * real((qs[j] >> 4) - zero) + m;
  }
}

void q5(const Byte* b, bool has_min, float* y) {
  const float d = half(b);
  const float m = has_min ? half(b + 2) : 0.0F;
  const Byte* qh = b + (has_min ? 4 : 2);
  const Byte* qs = qh + 4;
  const int zero = has_min ? 0 : 16;
  for (int j = 0; j < 16; ++j) {
    const int low = (qh[j / 8] >> (j % 8)) & 1;
    const int high = (qh[2 + j / 8] >> (j % 8)) & 1;
    y[j] = d * real(((qs[j] & 15) | (low << 4)) - zero) + m;
    y[j + 16] = d * real(((qs[j] >> 4) | (high << 4)) - zero) + m;
  }
}

void q8_0(const Byte* b, float* y) {
  const float d = half(b);
  for (int j = 0; j < 32; ++j) y[j] = d * real(static_cast<std::int8_t>(b[2 + j]));
}

void q2_k(const Byte* b, float* y) {
  const float d = half(b + 80);
  const float dmin = half(b + 82);
  for (int i = 0; i < 256; ++i) {  // halves of 128; in each, four 2-bit planes of 32 bytes
    const int scale = b[i / 16];
    const int q = (b[16 + (i / 128) * 32 + i % 32] >> (2 * ((i / 32) % 4))) & 3;
    y[i] = d * real(scale & 15) * real(q) - dmin * real(scale >> 4);
  }
}

void q3_k(const Byte* b, float* y) {
  const Byte* qs = b + 32;
  const Byte* scales = b + 96;
  const float d = half(b + 108);
  for (int i = 0; i < 256; ++i) {
    const int s = i / 16;
    const int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
    const int scale = (low | (((scales[8 + s % 4] >> (2 * (s / 4))) & 3) << 4)) - 32;
    const int q = (qs[(i / 128) * 32 + i % 32] >> (2 * ((i / 32) % 4))) & 3;
    const int high = (b[i % 32] >> (i / 32)) & 1;
    y[i] = d * real(scale) * real(q - (high != 0 ? 0 : 4));
  }
}

struct ScaleMin {
  int scale, min;
};
ScaleMin scale_min(const Byte* s, int j) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4)};
}

void q45_k(const Byte* b, bool five, float* y) {
  const float d = half(b);
  const float dmin = half(b + 2);
  const Byte* qh = b + 16;
  const Byte* qs = b + (five ? 48 : 16);
  for (int s = 0; s < 8; ++s) {
    const ScaleMin sm = scale_min(b + 4, s);
    for (int l = 0; l < 32; ++l) {
      int q = (qs[(s / 2) * 32 + l] >> (4 * (s % 2))) & 15;
      if (five) q |= ((qh[l] >> s) & 1) << 4;
      y[s * 32 + l] = d * real(sm.scale) * real(q) - dmin * real(sm.min);
    }
  }
}

void q6_k(const Byte* b, float* y) {
  const float d = half(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int plane = (i / 32) % 4;  // of the half of 128
    const int l = i % 32;
    const int low = (b[(i / 128) * 64 + (plane % 2) * 32 + l] >> (4 * (plane / 2))) & 15;
    const int high = (b[128 + (i / 128) * 32 + l] >> (2 * plane)) & 3;
    y[i] = d * real(static_cast<std::int8_t>(b[192 + i / 16])) * real((low | (high << 4)) - 32);
  }
}

void iq4(const Byte* qs, float d, float* y) {
  for (int j = 0; j < 16; ++j) {
    y[j] = d * real(kIq4Values[qs[j] & 15U]);
    y[j + 16] = d * real(kIq4Values[static_cast<std::size_t>(qs[j] >> 4)]);
  }
}

void iq4_xs(const Byte* b, float* y) {
  const float d = half(b);
  const int high = u16(b + 2);
  for (int s = 0; s < 8; ++s) {
    const int scale = ((b[4 + s / 2] >> (4 * (s % 2))) & 15) | (((high >> (2 * s)) & 3) << 4);
    iq4(b + 8 + s * 16, d * real(scale - 32), y + s * 32);
  }
}

/// Int4 of compressed-tensors: f32 scale, zero, nibbles in sequence.
void i4(const Byte* b, int count, float* y) {
  float d = 0;
  std::memcpy(&d, b, 4);
  for (int i = 0; i < count; ++i) y[i] = d * real(((b[8 + i / 2] >> (4 * (i % 2))) & 15) - b[4]);
}

void i8_32(const Byte* b, float* y) {
  float d = 0;
  std::memcpy(&d, b, 4);
  for (int i = 0; i < 32; ++i) y[i] = d * real(static_cast<std::int8_t>(b[4 + i]));
}

void block(DType source, const Byte* b, float* y) {
  switch (source) {
    case DType::f32:
      std::memcpy(y, b, sizeof(float));
      return;
    case DType::f16:
      *y = half(b);
      return;
    case DType::bf16:
      *y = bf16_to_f32(u16(b));
      return;
    case DType::f8_e4m3:
      *y = f8_e4m3_to_f32(*b);
      return;
    case DType::q4_0:
      q4(b, false, y);
      return;
    case DType::q4_1:
      q4(b, true, y);
      return;
    case DType::q5_0:
      q5(b, false, y);
      return;
    case DType::q5_1:
      q5(b, true, y);
      return;
    case DType::q8_0:
      q8_0(b, y);
      return;
    case DType::q2_k:
      q2_k(b, y);
      return;
    case DType::q3_k:
      q3_k(b, y);
      return;
    case DType::q4_k:
      q45_k(b, false, y);
      return;
    case DType::q5_k:
      q45_k(b, true, y);
      return;
    case DType::q6_k:
      q6_k(b, y);
      return;
    case DType::iq4_nl:
      iq4(b + 2, half(b), y);
      return;
    case DType::iq4_xs:
      iq4_xs(b, y);
      return;
    case DType::i4_32:
    case DType::i4_64:
    case DType::i4_128:
      i4(b, static_cast<int>(traits(source).block_size), y);
      return;
    case DType::i8_32:
      i8_32(b, y);
      return;
    default:
      HP_CHECK(false, "no dequantizer for {}", traits(source).name);
  }
}

}  // namespace

void dequantize(DType source, const std::byte* data, std::size_t count, float* out) {
  const DTypeTraits& t = traits(source);
  HP_CHECK(count % t.block_size == 0, "{} elements of {}", count, t.name);
  const auto* bytes = reinterpret_cast<const Byte*>(data);
  for (std::size_t i = 0; i < count / t.block_size; ++i) {
    block(source, bytes + i * t.block_bytes, out + i * t.block_size);
  }
}

}  // namespace hp::kernels
