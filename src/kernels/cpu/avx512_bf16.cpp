// AVX-512 BF16 products of bf16 weights with activations rounded to bf16. A row's sum over K runs in two chains, one
// over its even pairs and one over its odd ones, added at the end: the order of every row and every column.
//
// Only where the instruction is worth it: cores that multiply pairs at the rate of two fp32 multiply-adds take
// avx512_float.cpp instead (avx512.cpp chooses, once, by the kind of CPU: one kind of machine has one order).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_q8.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::size_t kStretchPairs = 256;  // of K that all rows visit before the next: 16 KiB of a panel
constexpr std::size_t kMostRows = 256;      // of one pass: their stretch, 256 KiB, stays in the second cache
constexpr std::size_t kSumRows = 2048;      // rows × panels whose chains are kept between stretches: 256 KiB
constexpr std::size_t kPairBytes = 64;      // 16 columns of a panel

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// The two chains of a row and 16 columns.
struct Chains {
  alignas(64) float even[16];
  float odd[16];
};

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,avx2,fma,f16c")

namespace {

/// sum + w · x of 16 columns and a pair of K; the pair is broadcast by the product itself.
inline __m512 dot_pair(__m512 sum, __m512i w, const std::uint16_t* x) {
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const std::uint16_t(*)[2]>(x)));
  return sum;
}

/// Adds pairs [first, first + count) of K to the chains of R rows from `row`; `single` is one last k without a partner.
template <std::size_t R>
void add_pairs(const MatmulArgs& a, const std::byte* panel, std::size_t first, std::size_t count, bool single,
               std::size_t row, Chains* chains) {
  const std::uint16_t* x[R];
  __m512 even[R], odd[R];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    x[r] = a.operand.bf16 + source_row(a.operand, row + r) * z(a.weight.k);
    even[r] = _mm512_load_ps(chains[r].even);
    odd[r] = _mm512_load_ps(chains[r].odd);
  }
  std::size_t p = first;  // even: stretches are
  for (; p + 2 <= first + count; p += 2) {
    const std::byte* w = panel + p * kPairBytes;
    prefetch_ahead<2 * kPairBytes>(w);
    const __m512i w0 = _mm512_loadu_si512(w), w1 = _mm512_loadu_si512(w + kPairBytes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) even[r] = dot_pair(even[r], w0, x[r] + 2 * p);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) odd[r] = dot_pair(odd[r], w1, x[r] + 2 * p + 2);
  }
  const bool pair_left = p < first + count;
  if (pair_left) {
    const __m512i w = _mm512_loadu_si512(panel + p * kPairBytes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) even[r] = dot_pair(even[r], w, x[r] + 2 * p);
    ++p;
  }
  if (single) {  // a pair with nothing for the other k, in the chain whose turn it is
    const __m512i w = _mm512_loadu_si512(panel + p * kPairBytes), none = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const std::uint16_t last[2] = {x[r][2 * p], 0};
      even[r] = dot_pair(even[r], pair_left ? none : w, last);
      odd[r] = dot_pair(odd[r], pair_left ? w : none, last);
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    _mm512_store_ps(chains[r].even, even[r]);
    _mm512_store_ps(chains[r].odd, odd[r]);
  }
}

void add_panel(const MatmulArgs& a, const std::byte* panel, std::size_t first, std::size_t count, std::size_t row,
               std::size_t rows, Chains* chains) {
  const bool single = z(a.weight.k) % 2 != 0 && first + count == z(a.weight.k) / 2;
  std::size_t r = 0;
  for (; r + 8 <= rows; r += 8) add_pairs<8>(a, panel, first, count, single, row + r, chains + r);
  for (; r + 4 <= rows; r += 4) add_pairs<4>(a, panel, first, count, single, row + r, chains + r);
  for (; r + 2 <= rows; r += 2) add_pairs<2>(a, panel, first, count, single, row + r, chains + r);
  for (; r < rows; ++r) add_pairs<1>(a, panel, first, count, single, row + r, chains + r);
}

void multiply_rows(const MatmulArgs& a, std::size_t row, std::size_t rows) {
  Chains chains[kSumRows];
  const std::size_t pairs = z(a.weight.k) / 2;
  // Up to 8 rows read a panel once from end to end; the stretches of more are read again by every panel of a block.
  const std::size_t stretch = rows <= 8 ? std::max<std::size_t>(pairs, 1) : kStretchPairs;
  const std::size_t together = rows <= 8 ? 1 : kSumRows / rows;
  for (std::size_t p0 = z(a.panel_begin); p0 < z(a.panel_end); p0 += together) {
    const std::size_t p1 = std::min(p0 + together, z(a.panel_end));
    std::memset(chains, 0, (p1 - p0) * rows * sizeof(Chains));
    for (std::size_t k = 0; k == 0 || k < pairs; k += stretch) {
      const std::size_t count = std::min(stretch, pairs - k);
      for (std::size_t p = p0; p < p1; ++p) {
        add_panel(a, a.weight.data + p * a.weight.panel_bytes, k, count, row, rows, chains + (p - p0) * rows);
      }
    }
    for (std::size_t p = p0; p < p1; ++p) {
      for (std::size_t r = 0; r < rows; ++r) {
        const Chains& c = chains[(p - p0) * rows + r];
        store_columns(a, p, row + r, _mm512_add_ps(_mm512_load_ps(c.even), _mm512_load_ps(c.odd)));
      }
    }
  }
}

}  // namespace

#pragma GCC pop_options

void matmul_bf16(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::bf16 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  for (std::size_t r = 0; r < z(a.m); r += kMostRows) multiply_rows(a, r, std::min(kMostRows, z(a.m) - r));
}

}  // namespace hp::kernels::avx512
