// One group of 32 of K of any quantized layout, expanded for AVX2, and a row's product with it. Include after every
// other header (see avx2_math.h). Integers are exact and floats go in the order of avx512_kquant.h: both ISAs give the
// same bits.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/avx2_math.h"
#include "kernels/cpu/packed_traits.h"
#include "kernels/params.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace hp::kernels::avx2 {
namespace {

/// Quads of 16 columns (half h has columns 8h..8h+7), unsigned as stored, or signed where kWide; then the scales:
/// w = d · (s0 or s1) · (q - zero) + min, less dmin · (m0 or m1); what a layout lacks is not written.
struct Group {
  __m256i quads[8][2];
  F16 d, s0, s1, min, m0, m1;
};

inline F16 halves_to_ps(const std::byte* p) {
  const auto* at = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
}
struct I16 {
  __m256i a, b;
};
inline I16 bytes_to_epi32(const std::byte* p) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))};
}
inline F16 to_ps(I16 v) {
  return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)};
}
inline F16 signed_to_ps(const std::byte* p) {
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return to_ps({_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))});
}
inline F16 negative(F16 v) {
  return {_mm256_sub_ps(_mm256_setzero_ps(), v.a), _mm256_sub_ps(_mm256_setzero_ps(), v.b)};
}

template <DType T>
inline void load_group_quads(const std::byte* group, __m256i (&quads)[8][2]) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  const __m256i nibble = _mm256_set1_epi8(15), pair = _mm256_set1_epi8(3);
  const __m256i values =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values.data())));
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const auto at = [group, h](int reg) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(group + reg * 64 + h * 32));
    };
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      __m256i q;
      if constexpr (kL.low_bits == 8) {
        q = at(j);
      } else if constexpr (kL.low_bits == 4) {
        q = _mm256_and_si256(j < 4 ? at(j) : _mm256_srli_epi16(at(j - 4), 4), nibble);
      } else {
        q = _mm256_and_si256(_mm256_srli_epi16(at(j / 4), 2 * (j % 4)), pair);
      }
      if constexpr (kL.high_bits == 1) {
        const __m256i high = at(kL.low_bits);
        const int by = kL.low_bits - j;
        const __m256i moved = by >= 0 ? _mm256_slli_epi16(high, by) : _mm256_srli_epi16(high, -by);
        q = _mm256_or_si256(q, _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(1 << kL.low_bits))));
      } else if constexpr (kL.high_bits == 2) {
        const __m256i high = at(kL.low_bits + j / 4);
        const int by = kL.low_bits - 2 * (j % 4);
        const __m256i moved = by >= 0 ? _mm256_slli_epi16(high, by) : _mm256_srli_epi16(high, -by);
        q = _mm256_or_si256(q, _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(3 << kL.low_bits))));
      }
      if constexpr (kL.lookup) q = _mm256_shuffle_epi8(values, q);
      if constexpr (kL.low_bits == 8) q = _mm256_xor_si256(q, _mm256_set1_epi8(static_cast<char>(0x80)));
      quads[j][h] = q;
    }
  }
}

template <DType T>
inline void load_group_scales(const std::byte* s, std::size_t group, Group& out) {
  constexpr ScaleForm kForm = Packed<T>::kLayout.scales;
  const std::byte* two = s + 64 + group * 32;
  if constexpr (kForm == ScaleForm::full || kForm == ScaleForm::full_zero) {
    out.d = load(reinterpret_cast<const float*>(s));
  } else {
    out.d = halves_to_ps(s);
  }
  if constexpr (kForm == ScaleForm::half_min) {
    out.min = halves_to_ps(s + 32);
  } else if constexpr (kForm == ScaleForm::full_zero) {
    out.min = mul(out.d, negative(to_ps(bytes_to_epi32(s + 64))));
  } else if constexpr (kForm == ScaleForm::k_bytes) {
    out.d = mul(out.d, to_ps(bytes_to_epi32(two)));
    out.min = negative(mul(halves_to_ps(s + 32), to_ps(bytes_to_epi32(two + 16))));
  } else if constexpr (kForm == ScaleForm::k_nibbles) {
    const __m256i low = _mm256_set1_epi32(15);
    const I16 a = bytes_to_epi32(two), b = bytes_to_epi32(two + 16);
    out.s0 = to_ps({_mm256_and_si256(a.a, low), _mm256_and_si256(a.b, low)});
    out.s1 = to_ps({_mm256_and_si256(b.a, low), _mm256_and_si256(b.b, low)});
    out.m0 = to_ps({_mm256_srli_epi32(a.a, 4), _mm256_srli_epi32(a.b, 4)});
    out.m1 = to_ps({_mm256_srli_epi32(b.a, 4), _mm256_srli_epi32(b.b, 4)});
    out.min = halves_to_ps(s + 32);
  } else if constexpr (kForm == ScaleForm::k_signed) {
    out.s0 = signed_to_ps(two);
    out.s1 = signed_to_ps(two + 16);
  } else if constexpr (kForm == ScaleForm::k_signed_wide) {
    out.d = mul(out.d, signed_to_ps(s + 64 + group * 16));
  }
}

template <DType T>
inline void load_group(const std::byte* chunk, std::size_t group, Group& out) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  load_group_quads<T>(chunk + kL.quant_offset + group * kL.quant_bytes, out.quads);
  load_group_scales<T>(chunk + kL.scale_offset, group, out);
}

/// One row's operand of one group.
struct RowGroup {
  const std::int8_t* q;
  const float *scale, *sum;
  const std::int32_t* isum;
};

/// Quads whose products with the high plane fit 16 bits when added pairwise: largest quant · 127 · 2 · quads < 2^15.
template <DType T>
constexpr int quads_per_sum() {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  if (Packed<T>::kWide) return 1;
  const int bits = kL.low_bits + kL.high_bits;
  return bits <= 4 ? 8 : bits == 5 ? 4 : 2;
}

/// Exact Σ q · x over the quads [kFrom, kTo) for both halves of the columns, x = 16 · high + low.
template <DType T, int kFrom, int kTo>
inline I16 dot_quads(const Group& w, const std::int8_t* x) {
  constexpr int kEach = quads_per_sum<T>();
  const __m256i ones = _mm256_set1_epi16(1), sixteens = _mm256_set1_epi16(16);
  __m256i total[2], high[2], low[2];
  for (int h = 0; h < 2; ++h) total[h] = high[h] = low[h] = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int j = kFrom; j < kTo; ++j) {
    int quad = 0;
    std::memcpy(&quad, x + j * 4, 4);
    const __m256i x_high = _mm256_set1_epi32(quad);
    std::memcpy(&quad, x + 32 + j * 4, 4);
    const __m256i x_low = _mm256_set1_epi32(quad);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i q = w.quads[j][h];
      if constexpr (Packed<T>::kWide) {  // |q| · (x with q's sign): both factors fit their byte
        const __m256i size = _mm256_abs_epi8(q);
        high[h] = _mm256_add_epi16(high[h], _mm256_maddubs_epi16(size, _mm256_sign_epi8(x_high, q)));
        low[h] = _mm256_add_epi16(low[h], _mm256_maddubs_epi16(size, _mm256_sign_epi8(x_low, q)));
      } else {
        high[h] = _mm256_add_epi16(high[h], _mm256_maddubs_epi16(q, x_high));
        low[h] = _mm256_add_epi16(low[h], _mm256_maddubs_epi16(q, x_low));
      }
      if ((j + 1 - kFrom) % kEach == 0) {
        total[h] = _mm256_add_epi32(total[h], _mm256_madd_epi16(high[h], sixteens));
        high[h] = _mm256_setzero_si256();
      }
    }
  }
  for (int h = 0; h < 2; ++h) {
    if ((kTo - kFrom) % kEach != 0) total[h] = _mm256_add_epi32(total[h], _mm256_madd_epi16(high[h], sixteens));
    total[h] = _mm256_add_epi32(total[h], _mm256_madd_epi16(low[h], ones));
  }
  return {total[0], total[1]};
}

inline I16 add_words(I16 v, __m256i each) {
  return {_mm256_add_epi32(v.a, each), _mm256_add_epi32(v.b, each)};
}

/// acc + one group's share of a row.
template <DType T>
inline F16 dot_group(F16 acc, const Group& w, const RowGroup& x) {
  constexpr int kZero = Packed<T>::kWide ? 0 : Packed<T>::kZero;
  const __m256i isum = _mm256_set1_epi32(*x.isum);
  const F16 d = mul(w.d, all(*x.scale));
  if constexpr (Packed<T>::kHalves) {
    I16 first = dot_quads<T, 0, 4>(w, x.q), last = dot_quads<T, 4, 8>(w, x.q);
    if constexpr (kZero != 0) {
      first = add_words(first, _mm256_madd_epi16(isum, _mm256_set1_epi32(-kZero & 0xFFFF)));
      last = add_words(last, _mm256_madd_epi16(isum, _mm256_set1_epi32(-kZero * 65536)));
    }
    acc = fma(fma(to_ps(last), w.s1, mul(to_ps(first), w.s0)), d, acc);
  } else {
    I16 whole = dot_quads<T, 0, 8>(w, x.q);
    if constexpr (kZero != 0) whole = add_words(whole, _mm256_madd_epi16(isum, _mm256_set1_epi16(-kZero)));
    acc = fma(to_ps(whole), d, acc);
  }
  if constexpr (Packed<T>::kMin) acc = fma(w.min, all(*x.sum), acc);
  if constexpr (Packed<T>::kHalfMins) {
    const auto low = static_cast<float>(static_cast<std::int16_t>(*x.isum & 0xFFFF));
    const auto high = static_cast<float>(*x.isum >> 16);
    const F16 mins = fma(w.m1, all(high), mul(w.m0, all(low)));
    acc = fma(negative(mins), mul(w.min, all(*x.scale)), acc);
  }
  return acc;
}

}  // namespace
}  // namespace hp::kernels::avx2

#pragma GCC pop_options
