// AVX-512 VNNI products of q4_0, q4_1 and q8_0 weights with q8 activations. Few rows read the panel as it lies; many
// rows expand a stretch of it once into the first-level cache. Both do the same operations on a row in the same order.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_q8.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::size_t kPrefetchBytes = 4096;  // ahead of the group in work when the panel streams from memory
constexpr std::size_t kExpandFrom = 8;        // rows from which expanding pays
constexpr std::size_t kStretch = 32;          // groups expanded at a time: 16 KiB of quants
constexpr std::size_t kChunkRows = 256;       // rows that share an expanded stretch

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// A stretch of one panel: stored quants as bytes, scales and minimums as floats.
struct Stretch {
  alignas(64) std::uint8_t quads[kStretch][512];
  alignas(64) float d[kStretch][16];
  alignas(64) float min[kStretch][16];
};

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace {

/// R rows from `row` against one panel as it lies in memory.
template <typename L, std::size_t R>
void stream_rows(const MatmulArgs& a, std::size_t panel, std::size_t row) {
  const std::size_t groups = z(a.weight.k) / kGroupK;
  const std::byte* weight = a.weight.data + panel * a.weight.panel_bytes;
  std::size_t source[R];
  __m512 acc[R];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    source[r] = source_row(a.operand, row + r) * groups;
    acc[r] = _mm512_setzero_ps();
  }
  for (std::size_t g = 0; g < groups; ++g) {
    const std::byte* at = weight + g * L::kGroupBytes;
    for (std::size_t b = 0; b < L::kGroupBytes; b += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(at + kPrefetchBytes + b), _MM_HINT_T0);
    }
    __m512i quads[8];
    load_quads<L>(at, quads);
    const __m512 d = load_d<L>(at);
    const __m512 min = L::kMin ? load_min<L>(at) : d;
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t i = source[r] + g;
      const __m512i dot = dot_group<L>(quads, a.operand.q8 + i * kPlanes, a.operand.q8_isum + i);
      acc[r] = add_group<L>(acc[r], dot, d, min, a.operand.q8_scale + i, a.operand.q8_sum + i);
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) store_columns(a, panel, row + r, acc[r]);
}

template <typename L>
void expand(const std::byte* g, std::size_t groups, Stretch& out) {
  for (std::size_t i = 0; i < groups; ++i, g += L::kGroupBytes) {
    __m512i quads[8];
    load_quads<L>(g, quads);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) _mm512_store_si512(out.quads[i] + j * 64, quads[j]);
    _mm512_store_ps(out.d[i], load_d<L>(g));
    if constexpr (L::kMin) _mm512_store_ps(out.min[i], load_min<L>(g));
  }
}

/// Adds a stretch of `groups` groups from group `first` of K to R rows' sums.
template <typename L, std::size_t R>
void add_stretch(const MatmulArgs& a, const Stretch& w, std::size_t first, std::size_t groups, std::size_t row,
                 float* sums) {
  std::size_t source[R];
  __m512 acc[R];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    source[r] = source_row(a.operand, row + r) * (z(a.weight.k) / kGroupK) + first;
    acc[r] = _mm512_load_ps(sums + r * 16);
  }
  for (std::size_t g = 0; g < groups; ++g) {
    __m512i quads[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) quads[j] = _mm512_load_si512(w.quads[g] + j * 64);
    const __m512 d = _mm512_load_ps(w.d[g]);
    const __m512 min = _mm512_load_ps(w.min[L::kMin ? g : 0]);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const std::size_t i = source[r] + g;
      const __m512i dot = dot_group<L>(quads, a.operand.q8 + i * kPlanes, a.operand.q8_isum + i);
      acc[r] = add_group<L>(acc[r], dot, d, min, a.operand.q8_scale + i, a.operand.q8_sum + i);
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) _mm512_store_ps(sums + r * 16, acc[r]);
}

template <typename L>
void expanded_rows(const MatmulArgs& a, std::size_t panel, std::size_t row, std::size_t rows) {
  alignas(64) float sums[kChunkRows][16];
  Stretch stretch;
  if constexpr (!L::kMin) _mm512_store_ps(stretch.min[0], _mm512_setzero_ps());
  std::memset(sums, 0, rows * sizeof(sums[0]));
  const std::size_t groups = z(a.weight.k) / kGroupK;
  for (std::size_t g = 0; g < groups; g += kStretch) {
    const std::size_t count = std::min(kStretch, groups - g);
    expand<L>(a.weight.data + panel * a.weight.panel_bytes + g * L::kGroupBytes, count, stretch);
    std::size_t r = 0;
    for (; r + 8 <= rows; r += 8) add_stretch<L, 8>(a, stretch, g, count, row + r, sums[r]);
    for (; r + 2 <= rows; r += 2) add_stretch<L, 2>(a, stretch, g, count, row + r, sums[r]);
    for (; r < rows; ++r) add_stretch<L, 1>(a, stretch, g, count, row + r, sums[r]);
  }
  for (std::size_t r = 0; r < rows; ++r) store_columns(a, panel, row + r, _mm512_load_ps(sums[r]));
}

template <typename L>
void matmul_layout(const MatmulArgs& a) {
  const std::size_t m = z(a.m);
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    if (m >= kExpandFrom) {
      for (std::size_t r = 0; r < m; r += kChunkRows) expanded_rows<L>(a, p, r, std::min(kChunkRows, m - r));
      continue;
    }
    std::size_t r = 0;
    for (; r + 4 <= m; r += 4) stream_rows<L, 4>(a, p, r);
    for (; r + 2 <= m; r += 2) stream_rows<L, 2>(a, p, r);
    for (; r < m; ++r) stream_rows<L, 1>(a, p, r);
  }
}

}  // namespace

#pragma GCC pop_options

void matmul_q8(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::q8 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  switch (a.weight.source) {
    case DType::q4_0:
      return matmul_layout<Q4_0>(a);
    case DType::q4_1:
      return matmul_layout<Q4_1>(a);
    case DType::q8_0:
      return matmul_layout<Q8_0>(a);
    default:
      HP_CHECK(false, "no q8 product of {}", traits(a.weight.source).name);
  }
}

}  // namespace hp::kernels::avx512
