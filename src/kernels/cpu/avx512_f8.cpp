// AVX-512 products of packed fp8 weights (e4m3, a scale per 128 of K and column) with float activations: the operations
// of avx2_matmul_float.cpp, sixteen columns at a time, so the bits are the same. More than four rows share an expanded
// stretch.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_math.h"
#include "kernels/packing.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::size_t kPrefetchBytes = 4096;
constexpr std::size_t kChunkBytes = 64 + kF8ChunkK * 16;
constexpr std::size_t kChunkRows = 256;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")

namespace {

/// Two rows of k: sign, 4 bits of exponent, 3 of mantissa as f16 that are 2^-8 of the value, subnormals too.
inline void two_rows(const std::byte* at, __m512& even, __m512& odd) {
  const __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  const __m512i half =
      _mm512_and_si512(_mm512_slli_epi16(wide, 7), _mm512_set1_epi16(static_cast<std::int16_t>(0xBFFF)));
  even = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
  odd = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
}

void store(const MatmulArgs& a, std::size_t panel, std::size_t row, __m512 v) {
  const std::size_t first = panel * 16;
  const __mmask16 mask = lanes(z(a.weight.n) - first);
  float* out = a.out + row * a.out_stride + first;
  if (a.bias != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, a.bias + first));
  if (a.accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), v);
  _mm512_mask_storeu_ps(out, mask, v);
}

/// total[r] += scale · Σ over one chunk of `count` k for R rows; w holds floats [count, 16] when kExpanded.
template <std::size_t R, bool kExpanded>
inline void add_chunk(const float* const* x, const std::byte* chunk, const float* w, std::size_t count, __m512* total) {
  __m512 even[R], odd[R];
  for (std::size_t r = 0; r < R; ++r) even[r] = odd[r] = _mm512_setzero_ps();
  const std::byte* at = chunk + 64;
  for (std::size_t i = 0; i < count; i += 2, at += 32) {
    __m512 a, b;
    if constexpr (kExpanded) {
      a = _mm512_load_ps(w + i * 16);
      b = _mm512_load_ps(w + i * 16 + 16);
    } else {
      if (i % 4 == 0) _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes), _MM_HINT_T0);
      two_rows(at, a, b);
    }
    const bool both = i + 1 < count;
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      even[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][i]), a, even[r]);
      if (both) odd[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][i + 1]), b, odd[r]);
    }
  }
  const __m512 d = _mm512_mul_ps(_mm512_loadu_ps(chunk), _mm512_set1_ps(256.0F));
  for (std::size_t r = 0; r < R; ++r) total[r] = _mm512_fmadd_ps(_mm512_add_ps(even[r], odd[r]), d, total[r]);
}

inline const float* row_at(const MatmulArgs& a, std::size_t row) {
  const std::size_t source = a.operand.row_ids != nullptr ? z(a.operand.row_ids[row]) : row;
  return a.operand.f32 + source * z(a.weight.k);
}

template <std::size_t R>
void chunk_rows(const MatmulArgs& a, std::size_t row, const std::byte* chunk, const float* w, std::size_t k0,
                std::size_t count, __m512* total) {
  const float* x[R];
  for (std::size_t r = 0; r < R; ++r) x[r] = row_at(a, row + r) + k0;
  if (w != nullptr) return add_chunk<R, true>(x, chunk, w, count, total);
  add_chunk<R, false>(x, chunk, w, count, total);
}

void panel_rows(const MatmulArgs& a, std::size_t panel, std::size_t row, std::size_t rows) {
  alignas(64) float stretch[(kF8ChunkK + 1) * 16];
  __m512 total[kChunkRows];
  for (std::size_t r = 0; r < rows; ++r) total[r] = _mm512_setzero_ps();
  const std::size_t k = z(a.weight.k);
  const std::byte* weight = a.weight.data + panel * a.weight.panel_bytes;
  for (std::size_t k0 = 0; k0 < k; k0 += kF8ChunkK) {
    const std::size_t count = std::min(kF8ChunkK, k - k0);
    const std::byte* chunk = weight + k0 / kF8ChunkK * kChunkBytes;
    const float* w = rows > 4 ? stretch : nullptr;
    for (std::size_t i = 0; w != nullptr && i < count; i += 2) {
      __m512 even, odd;
      two_rows(chunk + 64 + i * 16, even, odd);
      _mm512_store_ps(stretch + i * 16, even);
      _mm512_store_ps(stretch + i * 16 + 16, odd);
    }
    std::size_t r = 0;
    for (; r + 8 <= rows; r += 8) chunk_rows<8>(a, row + r, chunk, w, k0, count, total + r);
    for (; r + 4 <= rows; r += 4) chunk_rows<4>(a, row + r, chunk, w, k0, count, total + r);
    for (; r < rows; ++r) chunk_rows<1>(a, row + r, chunk, w, k0, count, total + r);
  }
  for (std::size_t r = 0; r < rows; ++r) store(a, panel, row + r, total[r]);
}

}  // namespace

#pragma GCC pop_options

void matmul_f8(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::f32 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    for (std::size_t r = 0; r < z(a.m); r += kChunkRows) panel_rows(a, p, r, std::min(kChunkRows, z(a.m) - r));
  }
}

}  // namespace hp::kernels::avx512
