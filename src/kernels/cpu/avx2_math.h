// Small vector functions shared by the AVX2 files: 16 floats as two registers, the same lanes as a panel has columns.
// Include after every other header: the functions are compiled for AVX2 and must stay internal to the file.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace hp::kernels::avx2 {
namespace {

struct F16 {
  __m256 a, b;
};
/// Lanes that count: all ones or zero per 32-bit lane.
struct Mask {
  __m256i a, b;
};

/// The lanes of `count` elements, all 16 from 16 on.
[[maybe_unused]] inline Mask lanes(std::size_t count) {
  const __m256i n = _mm256_set1_epi32(static_cast<int>(std::min<std::size_t>(count, 16)));
  return {_mm256_cmpgt_epi32(n, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_cmpgt_epi32(n, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}

[[maybe_unused]] inline F16 zero() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
[[maybe_unused]] inline F16 all(float v) {
  return {_mm256_set1_ps(v), _mm256_set1_ps(v)};
}
[[maybe_unused]] inline F16 load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
[[maybe_unused]] inline F16 load(const float* p, Mask m) {
  return {_mm256_maskload_ps(p, m.a), _mm256_maskload_ps(p + 8, m.b)};
}
[[maybe_unused]] inline void store(float* p, F16 v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
[[maybe_unused]] inline void store(float* p, Mask m, F16 v) {
  _mm256_maskstore_ps(p, m.a, v.a);
  _mm256_maskstore_ps(p + 8, m.b, v.b);
}
[[maybe_unused]] inline F16 add(F16 x, F16 y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
[[maybe_unused]] inline F16 mul(F16 x, F16 y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
[[maybe_unused]] inline F16 div(F16 x, F16 y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
/// x · y + w
[[maybe_unused]] inline F16 fma(F16 x, F16 y, F16 w) {
  return {_mm256_fmadd_ps(x.a, y.a, w.a), _mm256_fmadd_ps(x.b, y.b, w.b)};
}
[[maybe_unused]] inline F16 max(F16 x, F16 y) {
  return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
/// y where the mask counts, x elsewhere.
[[maybe_unused]] inline F16 blend(F16 x, F16 y, Mask m) {
  return {_mm256_blendv_ps(x.a, y.a, _mm256_castsi256_ps(m.a)), _mm256_blendv_ps(x.b, y.b, _mm256_castsi256_ps(m.b))};
}

[[maybe_unused]] inline float sum(F16 v) {
  const __m256 s = _mm256_add_ps(v.a, v.b);
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
[[maybe_unused]] inline float largest(F16 v) {
  const __m256 s = _mm256_max_ps(v.a, v.b);
  __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_max_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

/// 2^e for e in [-126, 127].
[[maybe_unused]] inline __m256 power_of_two(__m256i e) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
}

/// e^x, about one unit in the last place; 0 below -87.4 (minus infinity too), infinity above 88.8. Cody-Waite reduction
/// to |r| ≤ ln 2 / 2, then the Taylor polynomial of degree 7; 2^n in two factors, so that the ends come out right.
[[maybe_unused]] inline __m256 exp_ps(__m256 x) {
  const __m256 clamped = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-104.0F)), _mm256_set1_ps(104.0F));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(clamped, _mm256_set1_ps(1.44269504F)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375F), clamped);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4F), r);
  __m256 p = _mm256_set1_ps(1.0F / 5040.0F);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 720.0F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 120.0F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 24.0F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F / 6.0F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0F));
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
  return _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
}
[[maybe_unused]] inline F16 exp(F16 v) {
  return {exp_ps(v.a), exp_ps(v.b)};
}

/// 8 consecutive bf16 values as floats.
[[maybe_unused]] inline __m256 bf16_to_ps(__m128i v) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}
/// The low halves of 2 × 8 words, in order.
[[maybe_unused]] inline __m256i pack_words(__m256i a, __m256i b) {
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low)), 0xD8);
}
/// Round to nearest even, as f32_to_bf16 does; a NaN keeps its top bits and gets the quiet bit. In the low half of
/// every lane.
[[maybe_unused]] inline __m256i bf16_words(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7FFF));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
  return _mm256_srli_epi32(
      _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan)), 16);
}

}  // namespace
}  // namespace hp::kernels::avx2

#pragma GCC pop_options
