// Row operations of the AVX-512 tables: preparing operands, norm, activation, rotation, embedding rows. A row's bits
// depend on its length and values only. to_q8 and to_bf16 give ref's bits.
// g++ 12 warns about the undefined operand inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_math.h"
#include "kernels/isa_tables.h"

namespace hp::kernels::avx512 {
namespace {

constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")

namespace {

/// 16 values as 16 · hi + lo; lo goes kQuantGroup bytes behind hi.
void store_planes(__m512i q, std::int8_t* out) {
  const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(8)), 4);
  const __m512i low = _mm512_sub_epi32(q, _mm512_slli_epi32(high, 4));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kGroup), _mm512_cvtepi32_epi8(low));
}

/// The largest magnitude of a group.
float largest_of(const float* x) {
  const __m512 a = _mm512_abs_ps(_mm512_loadu_ps(x)), b = _mm512_abs_ps(_mm512_loadu_ps(x + 16));
  return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

/// Leaves the largest values of a row's groups in `largest`; gives that up to which 8 bits do.
float narrow_limit(const float* x, std::size_t groups, float narrow, float* largest) {
  float sum = 0.0F;
  for (std::size_t g = 0; g < groups; ++g) sum += largest[g] = largest_of(x + g * kGroup);
  return narrow * (sum / static_cast<float>(groups));
}

/// 16 values as whole numbers of ±most times 2^shift.
__m512i round_to(__m512 x, __m512 inverse, int most, int shift) {
  const __m512i q = _mm512_min_epi32(_mm512_set1_epi32(most), _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)));
  return _mm512_sll_epi32(_mm512_max_epi32(_mm512_set1_epi32(-most), q), _mm_cvtsi32_si128(shift));
}

}  // namespace

void to_q8(const float* x, std::int32_t rows, std::int32_t k, const Q8Rows& out) {
  HP_CHECK(z(k) % kGroup == 0, "K {}", k);
  const std::size_t row_groups = z(k) / kGroup;
  float limit = 0.0F;
  for (std::size_t g = 0; g < z(rows) * row_groups; ++g) {
    if (g % row_groups == 0) limit = narrow_limit(x + g * kGroup, row_groups, out.narrow, out.scale + g);
    const bool is_narrow = out.scale[g] <= limit;
    const int most = is_narrow ? kNarrowLimit : kQuantLimit, shift = is_narrow ? 4 : 0;
    const float step = out.scale[g] / static_cast<float>(most);
    const __m512 inverse = _mm512_set1_ps(step > 0.0F ? 1.0F / step : 0.0F);
    const __m512i qa = round_to(_mm512_loadu_ps(x + g * kGroup), inverse, most, shift);
    const __m512i qb = round_to(_mm512_loadu_ps(x + g * kGroup + 16), inverse, most, shift);
    const int first = _mm512_reduce_add_epi32(qa);
    const int last = _mm512_reduce_add_epi32(qb);
    store_planes(qa, out.q + g * z(kQuantGroupBytes));
    store_planes(qb, out.q + g * z(kQuantGroupBytes) + 16);
    out.scale[g] = is_narrow ? step / 16.0F : step;
    out.sum[g] = out.scale[g] * static_cast<float>(first + last);
    out.isum[g] = pack_half_sums(first, last);
  }
}

void to_bf16(const float* x, std::int32_t rows, std::int32_t k, std::uint16_t* out) {
  const std::size_t count = z(rows) * z(k);
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 m = lanes(count - i);
    _mm256_mask_storeu_epi16(out + i, m, ps_to_bf16(_mm512_maskz_loadu_ps(m, x + i)));
  }
}

void rms_norm(const float* x, std::size_t x_stride, const float* weight, float eps, std::int32_t rows, std::int32_t dim,
              float* out, std::size_t out_stride) {
  const std::size_t n = z(dim);
  for (std::size_t r = 0; r < z(rows); ++r) {
    const float* in = x + r * x_stride;
    __m512 even = _mm512_setzero_ps();
    __m512 odd = _mm512_setzero_ps();
    for (std::size_t i = 0; i < n; i += 32) {
      const __m512 a = _mm512_maskz_loadu_ps(lanes(n - i), in + i);
      even = _mm512_fmadd_ps(a, a, even);
      if (i + 16 >= n) break;
      const __m512 b = _mm512_maskz_loadu_ps(lanes(n - i - 16), in + i + 16);
      odd = _mm512_fmadd_ps(b, b, odd);
    }
    const float sum = _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
    const __m512 scale = _mm512_set1_ps(1.0F / std::sqrt(sum / static_cast<float>(dim) + eps));
    for (std::size_t i = 0; i < n; i += 16) {
      const __mmask16 m = lanes(n - i);
      const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, in + i), scale);
      _mm512_mask_storeu_ps(out + r * out_stride + i, m, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(m, weight + i)));
    }
  }
}

void add(float* x, const float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 m = lanes(count - i);
    _mm512_mask_storeu_ps(x + i, m, _mm512_add_ps(_mm512_maskz_loadu_ps(m, x + i), _mm512_maskz_loadu_ps(m, y + i)));
  }
}

void swiglu(const float* gate, const float* up, std::size_t count, float* out) {
  const __m512 one = _mm512_set1_ps(1.0F);
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 m = lanes(count - i);
    const __m512 g = _mm512_maskz_loadu_ps(m, gate + i);
    const __m512 below = _mm512_add_ps(one, exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), g)));
    const __m512 silu = _mm512_div_ps(g, below);
    _mm512_mask_storeu_ps(out + i, m, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(m, up + i)));
  }
}

namespace {

void rotate_halves(float* v, std::size_t half, const float* cos, const float* sin) {
  for (std::size_t i = 0; i < half; i += 16) {
    const __mmask16 m = lanes(half - i);
    const __m512 a = _mm512_maskz_loadu_ps(m, v + i);
    const __m512 b = _mm512_maskz_loadu_ps(m, v + half + i);
    const __m512 c = _mm512_maskz_loadu_ps(m, cos + i);
    const __m512 s = _mm512_maskz_loadu_ps(m, sin + i);
    _mm512_mask_storeu_ps(v + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
    _mm512_mask_storeu_ps(v + half + i, m, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
  }
}

void rotate_pairs(float* v, std::size_t half, const float* cos, const float* sin) {
  const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  for (std::size_t i = 0; i < half; i += 8) {
    const __mmask16 m = lanes(2 * (half - i));
    const __mmask16 pairs = lanes(std::min<std::size_t>(half - i, 8));
    const __m512 x = _mm512_maskz_loadu_ps(m, v + 2 * i);
    const __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(pairs, cos + i));
    const __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(pairs, sin + i));
    // even lanes a·c - b·s, odd lanes b·c + a·s
    _mm512_mask_storeu_ps(v + 2 * i, m, _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(_mm512_permute_ps(x, 0xB1), s)));
  }
}

}  // namespace

void rope(float* x, std::int32_t heads, std::int32_t head_dim, std::int32_t rope_offset, std::int32_t rope_dims,
          bool interleaved, const float* cos, const float* sin) {
  const std::size_t half = z(rope_dims) / 2;
  for (std::size_t h = 0; h < z(heads); ++h) {
    float* v = x + h * z(head_dim) + z(rope_offset);
    if (interleaved) {
      rotate_pairs(v, half, cos, sin);
    } else {
      rotate_halves(v, half, cos, sin);
    }
  }
}

#pragma GCC pop_options

}  // namespace hp::kernels::avx512
