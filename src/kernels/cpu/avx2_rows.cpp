// Row operations of the AVX2 table: preparing operands, norm, activation, rotation. A row's bits depend on its length
// and values only. to_q8 and to_bf16 give ref's bits.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx2_kernels.h"
#include "kernels/cpu/avx2_math.h"

namespace hp::kernels::avx2 {
namespace {

constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace {

/// 32 words in order, each within a signed byte, as bytes.
inline void store_bytes(const __m256i (&v)[4], std::int8_t* out) {
  const __m256i low = _mm256_packs_epi32(v[0], v[1]), high = _mm256_packs_epi32(v[2], v[3]);
  const __m256i mixed = _mm256_packs_epi16(low, high);
  const __m256i in_order = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), in_order);
}

inline int sum_words(__m256i a, __m256i b) {
  const __m256i s = _mm256_add_epi32(a, b);
  __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1)));
}

/// The largest magnitude of a group.
inline float largest_of(const float* x) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  return largest(
      max({_mm256_and_ps(_mm256_loadu_ps(x), magnitude), _mm256_and_ps(_mm256_loadu_ps(x + 8), magnitude)},
          {_mm256_and_ps(_mm256_loadu_ps(x + 16), magnitude), _mm256_and_ps(_mm256_loadu_ps(x + 24), magnitude)}));
}

/// Leaves the largest values of a row's groups in `tops`; gives that up to which 8 bits do.
float narrow_limit(const float* x, std::size_t groups, float narrow, float* tops) {
  float sum = 0.0F;
  for (std::size_t g = 0; g < groups; ++g) sum += tops[g] = largest_of(x + g * kGroup);
  return narrow * (sum / static_cast<float>(groups));
}

}  // namespace

void to_q8(const float* x, std::int32_t rows, std::int32_t k, const Q8Rows& out) {
  HP_CHECK(z(k) % kGroup == 0, "K {}", k);
  const std::size_t row_groups = z(k) / kGroup;
  float limit = 0.0F;
  for (std::size_t g = 0; g < z(rows) * row_groups; ++g) {
    if (g % row_groups == 0) limit = narrow_limit(x + g * kGroup, row_groups, out.narrow, out.scale + g);
    const bool is_narrow = out.scale[g] <= limit;
    const int bound = is_narrow ? kNarrowLimit : kQuantLimit;
    const __m256i most = _mm256_set1_epi32(bound), least = _mm256_set1_epi32(-bound);
    const __m128i shift = _mm_cvtsi32_si128(is_narrow ? 4 : 0);
    const float step = out.scale[g] / static_cast<float>(bound);
    const __m256 inverse = _mm256_set1_ps(step > 0.0F ? 1.0F / step : 0.0F);
    __m256i q[4], high[4], low[4];
    for (std::size_t i = 0; i < 4; ++i) {
      q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + g * kGroup + i * 8), inverse));
      q[i] = _mm256_sll_epi32(_mm256_max_epi32(least, _mm256_min_epi32(most, q[i])), shift);
      high[i] = _mm256_srai_epi32(_mm256_add_epi32(q[i], _mm256_set1_epi32(8)), 4);
      low[i] = _mm256_sub_epi32(q[i], _mm256_slli_epi32(high[i], 4));
    }
    store_bytes(high, out.q + g * z(kQuantGroupBytes));
    store_bytes(low, out.q + g * z(kQuantGroupBytes) + kGroup);
    const int first = sum_words(q[0], q[1]), last = sum_words(q[2], q[3]);
    out.scale[g] = is_narrow ? step / 16.0F : step;
    out.sum[g] = out.scale[g] * static_cast<float>(first + last);
    out.isum[g] = pack_half_sums(first, last);
  }
}

void to_bf16(const float* x, std::int32_t rows, std::int32_t k, std::uint16_t* out) {
  const std::size_t count = z(rows) * z(k);
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const F16 v = load(x + i);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), pack_words(bf16_words(v.a), bf16_words(v.b)));
  }
  if (i == count) return;
  const F16 v = load(x + i, lanes(count - i));
  alignas(32) std::uint16_t tail[16];
  _mm256_store_si256(reinterpret_cast<__m256i*>(tail), pack_words(bf16_words(v.a), bf16_words(v.b)));
  std::memcpy(out + i, tail, (count - i) * sizeof(tail[0]));
}

void rms_norm(const float* x, std::size_t x_stride, const float* weight, float eps, std::int32_t rows, std::int32_t dim,
              float* out, std::size_t out_stride) {
  const std::size_t n = z(dim);
  for (std::size_t r = 0; r < z(rows); ++r) {
    const float* in = x + r * x_stride;
    F16 squares = zero();
    for (std::size_t i = 0; i < n; i += 16) {
      const F16 v = load(in + i, lanes(n - i));
      squares = fma(v, v, squares);
    }
    const F16 scale = all(1.0F / std::sqrt(sum(squares) / static_cast<float>(dim) + eps));
    for (std::size_t i = 0; i < n; i += 16) {
      const Mask m = lanes(n - i);
      store(out + r * out_stride + i, m, mul(mul(load(in + i, m), scale), load(weight + i, m)));
    }
  }
}

void add(float* x, const float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 16) {
    const Mask m = lanes(count - i);
    store(x + i, m, add(load(x + i, m), load(y + i, m)));
  }
}

void swiglu(const float* gate, const float* up, std::size_t count, float* out) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  for (std::size_t i = 0; i < count; i += 16) {
    const Mask m = lanes(count - i);
    const F16 g = load(gate + i, m);
    const F16 below = add(all(1.0F), exp({_mm256_xor_ps(g.a, sign), _mm256_xor_ps(g.b, sign)}));
    store(out + i, m, mul(div(g, below), load(up + i, m)));
  }
}

namespace {

void rotate_halves(float* v, std::size_t half, const float* cos, const float* sin) {
  for (std::size_t i = 0; i < half; i += 16) {
    const Mask m = lanes(half - i);
    const F16 a = load(v + i, m), b = load(v + half + i, m), c = load(cos + i, m), s = load(sin + i, m);
    const F16 bs = mul(b, s), bc = mul(b, c);
    store(v + i, m, {_mm256_fmsub_ps(a.a, c.a, bs.a), _mm256_fmsub_ps(a.b, c.b, bs.b)});
    store(v + half + i, m, fma(a, s, bc));
  }
}

void rotate_pairs(float* v, std::size_t half, const float* cos, const float* sin) {
  const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  for (std::size_t i = 0; i < half; i += 4) {
    const Mask m = lanes(2 * (half - i)), pairs = lanes(std::min<std::size_t>(half - i, 4));
    const __m256 x = _mm256_maskload_ps(v + 2 * i, m.a);
    const __m256 c = _mm256_permutevar8x32_ps(_mm256_maskload_ps(cos + i, pairs.a), twice);
    const __m256 s = _mm256_permutevar8x32_ps(_mm256_maskload_ps(sin + i, pairs.a), twice);
    // even lanes a·c - b·s, odd lanes b·c + a·s
    _mm256_maskstore_ps(v + 2 * i, m.a, _mm256_fmaddsub_ps(x, c, _mm256_mul_ps(_mm256_permute_ps(x, 0xB1), s)));
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

}  // namespace hp::kernels::avx2
