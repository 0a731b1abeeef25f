// AVX-512 VNNI products of every quantized layout.
// Few rows read the panel as it lies; many rows go to avx512_many_rows.cpp. Both do the same operations on a row in the
// same order.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_kquant.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::int32_t kManyRows = 8;  // from which arithmetic outweighs memory

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace {

std::size_t source_of(const Operand& x, std::size_t row) {
  return x.row_ids != nullptr ? z(x.row_ids[row]) : row;
}

inline RowGroup row_group(const Operand& x, std::size_t i) {
  return {.q = x.q8 + i * 64, .scale = x.q8_scale + i, .sum = x.q8_sum + i, .isum = x.q8_isum + i};
}

void store(const MatmulArgs& a, std::size_t panel, std::size_t row, __m512 v) {
  const std::size_t first = panel * 16;
  const __mmask16 mask = lanes(z(a.weight.n) - first);
  float* out = a.out + row * a.out_stride + first;
  if (a.bias != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, a.bias + first));
  if (a.accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), v);
  _mm512_mask_storeu_ps(out, mask, v);
}

/// R rows from `row` against one panel as it lies in memory.
template <DType T, std::size_t R>
void stream_rows(const MatmulArgs& a, std::size_t panel, std::size_t row) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  const std::size_t groups = z(a.weight.k) / 32;
  const std::byte* chunk = a.weight.data + panel * a.weight.panel_bytes;
  std::size_t source[R];
  __m512 acc[R];
  for (std::size_t r = 0; r < R; ++r) {
    source[r] = source_of(a.operand, row + r) * groups;
    acc[r] = _mm512_setzero_ps();
  }
  for (std::size_t g0 = 0; g0 < groups; g0 += Packed<T>::kGroups, chunk += kL.chunk_bytes) {
    for (std::size_t g = 0; g < Packed<T>::kGroups; ++g) {
      constexpr std::size_t kEach = kL.chunk_bytes / Packed<T>::kGroups;
      prefetch_ahead<kEach>(chunk + g * kEach);
      Group w;
      load_group<T>(chunk, g, w);
#pragma GCC unroll 4
      for (std::size_t r = 0; r < R; ++r) {
        acc[r] = dot_group<T>(acc[r], w, row_group(a.operand, source[r] + g0 + g));
      }
    }
  }
  for (std::size_t r = 0; r < R; ++r) store(a, panel, row + r, acc[r]);
}

template <DType T>
void matmul_layout(const MatmulArgs& a) {
  const std::size_t m = z(a.m);
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    std::size_t r = 0;
    for (; r + 4 <= m; r += 4) stream_rows<T, 4>(a, p, r);
    for (; r + 2 <= m; r += 2) stream_rows<T, 2>(a, p, r);
    for (; r < m; ++r) stream_rows<T, 1>(a, p, r);
  }
}

}  // namespace

#pragma GCC pop_options

void matmul_kquant(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::q8 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  if (a.m >= kManyRows) return matmul_many_rows(a);
  switch (a.weight.source) {
    case DType::q4_0:
      return matmul_layout<DType::q4_0>(a);
    case DType::q4_1:
      return matmul_layout<DType::q4_1>(a);
    case DType::q8_0:
      return matmul_layout<DType::q8_0>(a);
    case DType::q5_0:
      return matmul_layout<DType::q5_0>(a);
    case DType::q5_1:
      return matmul_layout<DType::q5_1>(a);
    case DType::q2_k:
      return matmul_layout<DType::q2_k>(a);
    case DType::q3_k:
      return matmul_layout<DType::q3_k>(a);
    case DType::q4_k:
      return matmul_layout<DType::q4_k>(a);
    case DType::q5_k:
      return matmul_layout<DType::q5_k>(a);
    case DType::q6_k:
      return matmul_layout<DType::q6_k>(a);
    case DType::iq4_nl:
      return matmul_layout<DType::iq4_nl>(a);
    case DType::iq4_xs:
      return matmul_layout<DType::iq4_xs>(a);
    case DType::i4_32:
      return matmul_layout<DType::i4_32>(a);
    case DType::i4_64:
      return matmul_layout<DType::i4_64>(a);
    case DType::i4_128:
      return matmul_layout<DType::i4_128>(a);
    case DType::i8_32:
      return matmul_layout<DType::i8_32>(a);
    default:
      HP_CHECK(false, "no q8 product of {}", traits(a.weight.source).name);
  }
}

}  // namespace hp::kernels::avx512
