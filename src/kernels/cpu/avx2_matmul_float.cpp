// AVX2 products of f32, f16, bf16 and fp8 weights with float activations. A stretch of a panel becomes floats in the
// first-level cache, then rows go over it, two at a time; even and odd k have sums of their own, joined at the end
// (fp8: at the end of every block scale). One row and many rows do the same operations in the same order.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx2_kernels.h"
#include "kernels/cpu/avx2_math.h"
#include "kernels/packing.h"

namespace hp::kernels::avx2 {
namespace {

constexpr std::size_t kPrefetchBytes = 4096;
constexpr std::size_t kStretchK = kF8ChunkK;  // 8 KiB of floats
constexpr std::size_t kChunkRows = 256;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace {

inline void prefetch(const std::byte* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p + kPrefetchBytes), _MM_HINT_T0);
}

/// Floats [count, 16] of a stretch from k0; f32 needs no copy. An odd bf16 count leaves one row of zeros behind it.
template <PanelKind K>
inline const float* expand(const std::byte* panel, std::size_t k0, std::size_t count, float* out) {
  if constexpr (K == PanelKind::f32) {
    const std::byte* at = panel + k0 * 64;
    for (std::size_t i = 0; i < count; ++i) prefetch(at + i * 64);
    return reinterpret_cast<const float*>(at);
  } else if constexpr (K == PanelKind::f16) {
    const std::byte* at = panel + k0 * 32;
    for (std::size_t i = 0; i < count; ++i, at += 32) {
      if (i % 2 == 0) prefetch(at);
      const auto* v = reinterpret_cast<const __m128i*>(at);
      store(out + i * 16, {_mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1))});
    }
  } else if constexpr (K == PanelKind::bf16) {
    const std::byte* at = panel + k0 * 32;
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
    for (std::size_t i = 0; i < count; i += 2, at += 64) {
      prefetch(at);
      const auto* v = reinterpret_cast<const __m256i*>(at);
      const __m256i a = _mm256_loadu_si256(v), b = _mm256_loadu_si256(v + 1);
      store(out + i * 16,
            {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))});
      store(out + i * 16 + 16,
            {_mm256_castsi256_ps(_mm256_and_si256(a, high)), _mm256_castsi256_ps(_mm256_and_si256(b, high))});
    }
  } else {
    const std::byte* at = panel + k0 / kF8ChunkK * (64 + kF8ChunkK * 16) + 64;
    const __m256i keep = _mm256_set1_epi16(static_cast<std::int16_t>(0xBFFF));
    for (std::size_t i = 0; i < count; ++i, at += 16) {
      if (i % 4 == 0) prefetch(at);
      // sign, 4 bits of exponent, 3 of mantissa as an f16 that is 2^-8 of the value, subnormals too
      const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
      const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), keep);
      store(out + i * 16,
            {_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1))});
    }
  }
  return out;
}

struct Sums {
  F16 even, odd;
};

/// Adds `count` k of a stretch to R rows' sums [R][even 16, odd 16].
template <std::size_t R>
inline void add_stretch(const float* const* x, const float* w, std::size_t count, Sums* sums) {
  Sums acc[R];
  for (std::size_t r = 0; r < R; ++r) acc[r] = sums[r];
  std::size_t i = 0;
  for (; i + 2 <= count; i += 2, w += 32) {
    const F16 even = load(w), odd = load(w + 16);
#pragma GCC unroll 2
    for (std::size_t r = 0; r < R; ++r) {
      acc[r].even = fma(all(x[r][i]), even, acc[r].even);
      acc[r].odd = fma(all(x[r][i + 1]), odd, acc[r].odd);
    }
  }
  for (std::size_t r = 0; r < R; ++r) {
    if (i < count) acc[r].even = fma(all(x[r][i]), load(w), acc[r].even);
    sums[r] = acc[r];
  }
}

void store_row(const MatmulArgs& a, std::size_t panel, std::size_t row, F16 v) {
  const std::size_t first = panel * 16;
  const Mask m = lanes(z(a.weight.n) - first);
  float* out = a.out + row * a.out_stride + first;
  if (a.bias != nullptr) v = add(v, load(a.bias + first, m));
  if (a.accumulate) v = add(load(out, m), v);
  store(out, m, v);
}

template <PanelKind K>
void panel_rows(const MatmulArgs& a, std::size_t panel, std::size_t row, std::size_t rows) {
  constexpr bool kScaled = K == PanelKind::f8;
  alignas(32) float stretch[(kStretchK + 1) * 16];
  Sums sums[kChunkRows];
  F16 total[kScaled ? kChunkRows : 1];
  for (std::size_t r = 0; r < rows; ++r) {
    sums[r] = {zero(), zero()};
    if constexpr (kScaled) total[r] = zero();
  }
  const std::size_t k = z(a.weight.k);
  const std::byte* weight = a.weight.data + panel * a.weight.panel_bytes;
  for (std::size_t k0 = 0; k0 < k; k0 += kStretchK) {
    const std::size_t count = std::min(kStretchK, k - k0);
    const float* w = expand<K>(weight, k0, count, stretch);
    const auto row_at = [&](std::size_t r) {
      const std::size_t source = a.operand.row_ids != nullptr ? z(a.operand.row_ids[row + r]) : row + r;
      return a.operand.f32 + source * k + k0;
    };
    std::size_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      const float* x[2] = {row_at(r), row_at(r + 1)};
      add_stretch<2>(x, w, count, sums + r);
    }
    if (r < rows) {
      const float* x[1] = {row_at(r)};
      add_stretch<1>(x, w, count, sums + r);
    }
    if constexpr (kScaled) {
      const auto* scales = reinterpret_cast<const float*>(weight + k0 / kF8ChunkK * (64 + kF8ChunkK * 16));
      const F16 d = mul(load(scales), all(256.0F));
      for (r = 0; r < rows; ++r) {
        total[r] = fma(add(sums[r].even, sums[r].odd), d, total[r]);
        sums[r] = {zero(), zero()};
      }
    }
  }
  for (std::size_t r = 0; r < rows; ++r) {
    store_row(a, panel, row + r, kScaled ? total[kScaled ? r : 0] : add(sums[r].even, sums[r].odd));
  }
}

template <PanelKind K>
void matmul_kind(const MatmulArgs& a) {
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    for (std::size_t r = 0; r < z(a.m); r += kChunkRows) panel_rows<K>(a, p, r, std::min(kChunkRows, z(a.m) - r));
  }
}

}  // namespace

#pragma GCC pop_options

void matmul_float(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::f32 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  switch (panel_layout(a.weight.source).kind) {
    case PanelKind::f32:
      return matmul_kind<PanelKind::f32>(a);
    case PanelKind::f16:
      return matmul_kind<PanelKind::f16>(a);
    case PanelKind::bf16:
      return matmul_kind<PanelKind::bf16>(a);
    case PanelKind::f8:
      return matmul_kind<PanelKind::f8>(a);
    case PanelKind::quants:
      HP_CHECK(false, "no float product of {}", traits(a.weight.source).name);
  }
}

}  // namespace hp::kernels::avx2
