// What products of q4_0, q4_1 and q8_0 weights share between the AVX-512 and AMX files: one group of 32 of K in
// registers, the arithmetic of a group, the store of a row. Include after every other header (see avx512_math.h).
//
// A group adds fma(Σ (q - zero) · x as an exact integer, d · x_scale, acc), then with a minimum fma(m, x_sum, acc), in
// the order of K. The integer is exact however it is computed, so VNNI and AMX give the same bits.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/avx512_math.h"
#include "kernels/packing.h"
#include "kernels/params.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace hp::kernels::avx512 {
namespace {

inline constexpr std::size_t kGroupK = 32;
inline constexpr std::size_t kPlanes = 64;  ///< bytes of a group of activations

/// The three layouts as types. kZero is what a stored quant must lose to be w / d.
struct Q4_0 {
  static constexpr bool kBytes = false, kMin = false;
  static constexpr int kZero = 8;
  static constexpr std::size_t kGroupBytes = 288;
};
struct Q4_1 {
  static constexpr bool kBytes = false, kMin = true;
  static constexpr int kZero = 0;
  static constexpr std::size_t kGroupBytes = 320;
};
struct Q8_0 {
  static constexpr bool kBytes = true, kMin = false;
  static constexpr int kZero = 128;
  static constexpr std::size_t kGroupBytes = 544;
};

/// Stored (unsigned) quants as 8 quads of K: 16 columns × 4 consecutive k each.
template <typename L>
inline void load_quads(const std::byte* g, __m512i (&quads)[8]) {
  if constexpr (L::kBytes) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) quads[j] = _mm512_loadu_si512(g + j * 64);
  } else {
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512i both = _mm512_loadu_si512(g + j * 64);
      quads[j] = _mm512_and_si512(both, low);
      quads[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  }
}

inline __m512 load_halves(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
template <typename L>
inline __m512 load_d(const std::byte* g) {
  return load_halves(g + (L::kBytes ? 512 : 256));
}
template <typename L>
inline __m512 load_min(const std::byte* g) {
  return load_halves(g + 288);
}

/// One group's contribution to 16 columns of a row: `dot` is the exact Σ (q - zero) · x.
template <typename L>
inline __m512 add_group(__m512 acc, __m512i dot, __m512 d, __m512 min, const float* x_scale, const float* x_sum) {
  acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(d, _mm512_set1_ps(*x_scale)), acc);
  if constexpr (L::kMin) acc = _mm512_fmadd_ps(min, _mm512_set1_ps(*x_sum), acc);
  return acc;
}

/// sum + Σ q · x for one plane of a group's activations.
inline __m512i dot_plane(__m512i sum, const __m512i (&quads)[8], const std::int8_t* x) {
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    sum = _mm512_dpbusd_epi32(sum, quads[j], four_bytes(x + j * 4));
  }
  return sum;
}

/// Σ (q - zero) · x over one group by VNNI.
template <typename L>
inline __m512i dot_group(const __m512i (&quads)[8], const std::int8_t* x, const std::int32_t* x_isum) {
  __m512i sum = dot_plane(_mm512_setzero_si512(), quads, x);
  sum = _mm512_slli_epi32(sum, 4);
  if constexpr (L::kZero != 0) {
    sum = _mm512_dpwssd_epi32(sum, _mm512_set1_epi32(*x_isum), _mm512_set1_epi16(-L::kZero));
  }
  return dot_plane(sum, quads, x + kGroupK);
}

/// Stores 16 columns of output row `row` from panel `panel`, less where n ends.
inline void store_columns(const MatmulArgs& a, std::size_t panel, std::size_t row, __m512 v) {
  const std::size_t first = panel * 16;
  const __mmask16 mask = lanes(static_cast<std::size_t>(a.weight.n) - first);
  float* out = a.out + row * a.out_stride + first;
  if (a.bias != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, a.bias + first));
  if (a.accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), v);
  _mm512_mask_storeu_ps(out, mask, v);
}

inline std::size_t source_row(const Operand& x, std::size_t row) {
  return x.row_ids != nullptr ? static_cast<std::size_t>(x.row_ids[row]) : row;
}

}  // namespace
}  // namespace hp::kernels::avx512

#pragma GCC pop_options
