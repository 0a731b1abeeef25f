// AVX-512 products of f32, f16 and bf16 weights with float activations. Two chains of fused multiply-adds run over K,
// one over its even and one over its odd elements, and are added at the end: the order of every row and every column.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_q8.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::size_t kStretchPairs = 128;  // pairs of K that all rows visit before the next: 16 KiB of bf16
constexpr std::size_t kMostRows = 256;      // rows whose sums are kept between stretches

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")

namespace {

// A pair of K in a panel: kPairBytes apart; even() and odd() give 16 columns of one k.
struct F32 {
  static constexpr std::size_t kPairBytes = 128;
  static __m512 even(const std::byte* p) { return _mm512_loadu_ps(p); }
  static __m512 odd(const std::byte* p) { return _mm512_loadu_ps(p + 64); }
};
struct F16 {
  static constexpr std::size_t kPairBytes = 64;
  static __m512 even(const std::byte* p) { return load_halves(p); }
  static __m512 odd(const std::byte* p) { return load_halves(p + 32); }
};
struct Bf16 {
  static constexpr std::size_t kPairBytes = 64;
  static __m512 even(const std::byte* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
  static __m512 odd(const std::byte* p) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xFFFF0000U))));
  }
};

/// The two chains of a row.
struct Sums {
  alignas(64) float even[16];
  float odd[16];
};

/// Adds pairs [first, first + count) of K to the chains of R rows from `row`; `single` adds one last even k.
template <typename W, std::size_t R>
void add_pairs(const MatmulArgs& a, const std::byte* panel, std::size_t first, std::size_t count, bool single,
               std::size_t row, Sums* sums) {
  const float* x[R];
  __m512 even[R], odd[R];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    x[r] = a.operand.f32 + source_row(a.operand, row + r) * z(a.weight.k);
    even[r] = _mm512_load_ps(sums[r].even);
    odd[r] = _mm512_load_ps(sums[r].odd);
  }
  std::size_t p = first;
  for (; p < first + count; ++p) {
    const std::byte* w = panel + p * W::kPairBytes;
    prefetch_ahead<W::kPairBytes>(w);
    const __m512 we = W::even(w);
    const __m512 wo = W::odd(w);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      even[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][2 * p]), we, even[r]);
      odd[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][2 * p + 1]), wo, odd[r]);
    }
  }
  if (single) {
    const __m512 we = W::even(panel + p * W::kPairBytes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) even[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r][2 * p]), we, even[r]);
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    _mm512_store_ps(sums[r].even, even[r]);
    _mm512_store_ps(sums[r].odd, odd[r]);
  }
}

template <typename W>
void multiply_panel(const MatmulArgs& a, std::size_t panel, std::size_t row, std::size_t rows) {
  Sums sums[kMostRows];
  std::memset(sums, 0, rows * sizeof(Sums));
  const std::byte* weight = a.weight.data + panel * a.weight.panel_bytes;
  const std::size_t pairs = z(a.weight.k) / 2;
  const std::size_t stretch = rows <= 8 ? std::max<std::size_t>(pairs, 1) : kStretchPairs;
  for (std::size_t p = 0; p == 0 || p < pairs; p += stretch) {
    const std::size_t count = std::min(stretch, pairs - p);
    const bool single = z(a.weight.k) % 2 != 0 && p + count == pairs;
    std::size_t r = 0;
    for (; r + 8 <= rows; r += 8) add_pairs<W, 8>(a, weight, p, count, single, row + r, sums + r);
    for (; r + 4 <= rows; r += 4) add_pairs<W, 4>(a, weight, p, count, single, row + r, sums + r);
    for (; r + 2 <= rows; r += 2) add_pairs<W, 2>(a, weight, p, count, single, row + r, sums + r);
    for (; r < rows; ++r) add_pairs<W, 1>(a, weight, p, count, single, row + r, sums + r);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    store_columns(a, panel, row + r, _mm512_add_ps(_mm512_load_ps(sums[r].even), _mm512_load_ps(sums[r].odd)));
  }
}

template <typename W>
void multiply(const MatmulArgs& a) {
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    for (std::size_t r = 0; r < z(a.m); r += kMostRows) multiply_panel<W>(a, p, r, std::min(kMostRows, z(a.m) - r));
  }
}

}  // namespace

#pragma GCC pop_options

void matmul_float(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::f32 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  switch (panel_layout(a.weight.source).kind) {
    case PanelKind::f32:
      return multiply<F32>(a);
    case PanelKind::f16:
      return multiply<F16>(a);
    case PanelKind::bf16:
      return multiply<Bf16>(a);
    default:
      HP_CHECK(false, "no float product of {}", traits(a.weight.source).name);
  }
}

}  // namespace hp::kernels::avx512
