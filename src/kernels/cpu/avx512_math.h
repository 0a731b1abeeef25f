// Small vector functions shared by the AVX-512 files. Include after every other header: the functions are compiled for
// AVX-512 and must stay internal to the file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")

namespace hp::kernels::avx512 {
namespace {

/// The lanes of `count` elements, all 16 from 16 on.
[[maybe_unused]] inline __mmask16 lanes(std::size_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFFU) : static_cast<__mmask16>((1U << count) - 1U);
}

/// Four bytes in every lane. The type lets them be read as they lie: by memcpy g++ 12 goes through a general register
/// and port 5, twice as slow as a broadcasting load.
[[maybe_unused]] inline __m512i four_bytes(const void* p) {
  typedef int AnyInt __attribute__((may_alias, aligned(1)));
  return _mm512_set1_epi32(*static_cast<const AnyInt*>(p));
}

/// Asks for the kBytes that lie ahead of `at` in a panel that streams from memory: into the second cache early, which
/// has more reads under way than the first, and into the first when they are near.
template <std::size_t kBytes>
[[maybe_unused]] inline void prefetch_ahead(const std::byte* at) {
  constexpr std::size_t kNear = 4096, kFar = 16384;
  const auto* p = reinterpret_cast<const char*>(at);
  asm volatile("");  // else g++ 12 takes the function for one without effect and leaves its calls out
#pragma GCC unroll 10
  for (std::size_t b = 0; b < kBytes; b += 64) {
    _mm_prefetch(p + kFar + b, _MM_HINT_T1);
    _mm_prefetch(p + kNear + b, _MM_HINT_T0);
  }
}

/// e^x, about one unit in the last place; 0 below -87.4 (minus infinity too), infinity above 88.8.
/// Cody-Waite reduction to |r| ≤ ln 2 / 2, then the Taylor polynomial of degree 7, whose remainder is below 2^-27.
[[maybe_unused]] inline __m512 exp_ps(__m512 x) {
  const __m512 clamped = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-104.0F)), _mm512_set1_ps(104.0F));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(1.44269504F)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375F), clamped);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4F), r);
  __m512 p = _mm512_set1_ps(1.0F / 5040.0F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 720.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 120.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 24.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 6.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, n);
}

/// 16 consecutive bf16 values as floats.
[[maybe_unused]] inline __m512 bf16_to_ps(__m256i v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

/// Round to nearest even, as f32_to_bf16 does; a NaN keeps its top bits and gets the quiet bit.
[[maybe_unused]] inline __m256i ps_to_bf16(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
}

}  // namespace
}  // namespace hp::kernels::avx512

#pragma GCC pop_options
