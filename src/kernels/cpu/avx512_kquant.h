// One group of 32 of K of any quantized layout in AVX-512 registers, and its arithmetic: what the VNNI products here
// and AMX products share. Include after every other header (see avx512_math.h).
//
// A group adds, in the order of K, one fma of an exact number: Σ (q - zero) · x as an integer, or with a scale per 16
// of K the sum of both halves times their small whole scales, below 2^24 and so exact in a float. Formats with a
// minimum add a second fma. Whatever computes the exact numbers, the bits are the same.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/avx512_math.h"
#include "kernels/cpu/packed_traits.h"
#include "kernels/params.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace hp::kernels::avx512 {
namespace {

/// w = d · (s0 or s1) · (q - zero) + min, less dmin · (m0 or m1); what a layout lacks is not written.
struct Group {
  __m512i quads[8];
  __m512 d, s0, s1, min, m0, m1;
};

inline __m512 halves_to_ps(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline __m512i bytes_to_epi32(const std::byte* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline __m512 signed_to_ps(const std::byte* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

template <DType T>
inline void load_group_quads(const std::byte* group, __m512i (&quads)[8]) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  const auto at = [group](int reg) { return _mm512_loadu_si512(group + reg * 64); };
  const __m512i nibble = _mm512_set1_epi8(15), pair = _mm512_set1_epi8(3);
  if constexpr (kL.low_bits == 8) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) quads[j] = at(j);
  } else if constexpr (kL.low_bits == 4) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512i both = at(j);
      quads[j] = _mm512_and_si512(both, nibble);
      quads[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    }
  } else {
    const __m512i reg[2] = {at(0), at(1)};
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      quads[j] = _mm512_and_si512(_mm512_srli_epi16(reg[j / 4], static_cast<unsigned>(2 * (j % 4))), pair);
    }
  }
  if constexpr (kL.high_bits == 1) {
    const __m512i high = at(kL.low_bits), bit = _mm512_set1_epi8(static_cast<char>(1 << kL.low_bits));
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m512i moved = j < kL.low_bits ? _mm512_slli_epi16(high, static_cast<unsigned>(kL.low_bits - j))
                                            : _mm512_srli_epi16(high, static_cast<unsigned>(j - kL.low_bits));
      quads[j] = _mm512_or_si512(quads[j], _mm512_and_si512(moved, bit));
    }
  } else if constexpr (kL.high_bits == 2) {
    static_assert(kL.low_bits == 4);
    const __m512i high[2] = {at(4), at(5)}, bits = _mm512_set1_epi8(0x30);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const int by = 4 - 2 * (j % 4);
      const __m512i moved = by >= 0 ? _mm512_slli_epi16(high[j / 4], static_cast<unsigned>(by))
                                    : _mm512_srli_epi16(high[j / 4], static_cast<unsigned>(-by));
      quads[j] = _mm512_or_si512(quads[j], _mm512_and_si512(moved, bits));
    }
  }
  if constexpr (kL.lookup) {
    const __m512i values =
        _mm512_xor_si512(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values.data()))),
                         _mm512_set1_epi8(static_cast<char>(0x80)));
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) quads[j] = _mm512_shuffle_epi8(values, quads[j]);
  }
}

template <DType T>
inline void load_group_scales(const std::byte* s, std::size_t group, Group& out) {
  constexpr ScaleForm kForm = Packed<T>::kLayout.scales;
  const std::byte* two = s + 64 + group * 32;
  if constexpr (kForm == ScaleForm::full || kForm == ScaleForm::full_zero) {
    out.d = _mm512_loadu_ps(s);
  } else {
    out.d = halves_to_ps(s);
  }
  if constexpr (kForm == ScaleForm::half_min) {
    out.min = halves_to_ps(s + 32);
  } else if constexpr (kForm == ScaleForm::full_zero) {
    out.min = _mm512_mul_ps(out.d, _mm512_sub_ps(_mm512_setzero_ps(), _mm512_cvtepi32_ps(bytes_to_epi32(s + 64))));
  } else if constexpr (kForm == ScaleForm::k_bytes) {
    out.d = _mm512_mul_ps(out.d, _mm512_cvtepi32_ps(bytes_to_epi32(two)));
    const __m512 m = _mm512_cvtepi32_ps(bytes_to_epi32(two + 16));
    out.min = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(halves_to_ps(s + 32), m));
  } else if constexpr (kForm == ScaleForm::k_nibbles) {
    const __m512i low = _mm512_set1_epi32(15), a = bytes_to_epi32(two), b = bytes_to_epi32(two + 16);
    out.s0 = _mm512_cvtepi32_ps(_mm512_and_si512(a, low));
    out.s1 = _mm512_cvtepi32_ps(_mm512_and_si512(b, low));
    out.m0 = _mm512_cvtepi32_ps(_mm512_srli_epi32(a, 4));
    out.m1 = _mm512_cvtepi32_ps(_mm512_srli_epi32(b, 4));
    out.min = halves_to_ps(s + 32);
  } else if constexpr (kForm == ScaleForm::k_signed) {
    out.s0 = signed_to_ps(two);
    out.s1 = signed_to_ps(two + 16);
  } else if constexpr (kForm == ScaleForm::k_signed_wide) {
    out.d = _mm512_mul_ps(out.d, signed_to_ps(s + 64 + group * 16));
  }
}

/// Group `group` of the chunk at `chunk`.
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

/// One group's share of 16 columns of a row, given the exact Σ (q - zero) · x of its halves; formats without halves
/// have all of it in `first`.
template <DType T>
inline __m512 add_group(__m512 acc, __m512i first, __m512i last, const Group& w, const RowGroup& x) {
  const __m512 d = _mm512_mul_ps(w.d, _mm512_set1_ps(*x.scale));
  if constexpr (Packed<T>::kHalves) {
    const __m512 whole =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(last), w.s1, _mm512_mul_ps(_mm512_cvtepi32_ps(first), w.s0));
    acc = _mm512_fmadd_ps(whole, d, acc);
  } else {
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), d, acc);
  }
  if constexpr (Packed<T>::kMin) acc = _mm512_fmadd_ps(w.min, _mm512_set1_ps(*x.sum), acc);
  if constexpr (Packed<T>::kHalfMins) {
    const auto low = static_cast<float>(static_cast<std::int16_t>(*x.isum & 0xFFFF));
    const auto high = static_cast<float>(*x.isum >> 16);
    const __m512 mins = _mm512_fmadd_ps(w.m1, _mm512_set1_ps(high), _mm512_mul_ps(w.m0, _mm512_set1_ps(low)));
    acc = _mm512_fnmadd_ps(mins, _mm512_mul_ps(w.min, _mm512_set1_ps(*x.scale)), acc);
  }
  return acc;
}

/// sum += Σ q · x for one plane of a row's group; halves of K apart where the layout wants it.
template <DType T>
inline void dot_plane(__m512i (&sum)[2], const __m512i (&quads)[8], const std::int8_t* x) {
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    __m512i& to = sum[Packed<T>::kHalves ? j / 4 : 0];
    to = _mm512_dpbusd_epi32(to, quads[j], four_bytes(x + j * 4));
  }
}

/// add_group with the dots by VNNI: the high plane, times 16, the zero point, the low plane unless it is zero.
template <DType T>
inline __m512 dot_group(__m512 acc, const Group& w, const RowGroup& x) {
  constexpr int kZero = Packed<T>::kZero;
  __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  dot_plane<T>(sum, w.quads, x.q);
  sum[0] = _mm512_slli_epi32(sum[0], 4);
  if constexpr (Packed<T>::kHalves) sum[1] = _mm512_slli_epi32(sum[1], 4);
  if constexpr (kZero != 0 && Packed<T>::kHalves) {
    const __m512i isum = _mm512_set1_epi32(*x.isum);
    sum[0] = _mm512_dpwssd_epi32(sum[0], isum, _mm512_set1_epi32(-kZero & 0xFFFF));
    sum[1] = _mm512_dpwssd_epi32(sum[1], isum, _mm512_set1_epi32(-kZero * 65536));
  } else if constexpr (kZero != 0) {
    sum[0] = _mm512_dpwssd_epi32(sum[0], _mm512_set1_epi32(*x.isum), _mm512_set1_epi16(-kZero));
  }
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.q + 32));
  if (_mm256_testz_si256(low, low) == 0) dot_plane<T>(sum, w.quads, x.q + 32);
  return add_group<T>(acc, sum[0], sum[1], w, x);
}

}  // namespace
}  // namespace hp::kernels::avx512

#pragma GCC pop_options
