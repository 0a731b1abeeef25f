// AVX-512 VNNI products of 4- and 8-bit weights with q8 activations. Every other operation is ref's: sums over K of
// float weights, row operations and attention have no AVX-512 version yet.
// g++ 12 warns about the undefined operand inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/isa_tables.h"
#include "kernels/packing.h"

namespace hp::kernels {
namespace {

bool is_quantized(DType weight) {
  const PanelKind kind = panel_layout(weight).kind;
  return kind == PanelKind::nibbles || kind == PanelKind::bytes;
}

OperandKind operand_kind(DType weight) {
  return is_quantized(weight) ? OperandKind::q8 : OperandKind::f32;
}

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")

namespace {

struct Group {
  __m512i quads[8];
  __m512 d, offset;  ///< w = d · q + offset
};

inline void load_group(const PanelLayout& l, const std::byte* g, Group& out) {
  if (l.kind == PanelKind::bytes) {
    for (int j = 0; j < 8; ++j) out.quads[j] = _mm512_loadu_si512(g + j * 64);
  } else {
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m512i both = _mm512_loadu_si512(g + j * 64);
      out.quads[j] = _mm512_and_si512(both, low);
      out.quads[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  }
  const std::byte* scales = g + l.scale_offset;
  out.d = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
  out.offset = l.has_min ? _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + 32)))
                         : _mm512_mul_ps(out.d, _mm512_set1_ps(-l.zero));
}

/// `Rows` rows from `row` against one panel. The sequence of operations on a row does not depend on Rows.
template <std::size_t Rows>
void q8_rows(const MatmulArgs& a, const PanelLayout& l, std::size_t panel, std::size_t row) {
  const std::size_t groups = z(a.weight.k / kQuantGroup);
  const std::byte* weight = a.weight.data + panel * a.weight.panel_bytes;
  std::size_t source[Rows];
  __m512 acc[Rows];
  for (std::size_t r = 0; r < Rows; ++r) {
    source[r] = (a.operand.row_ids != nullptr ? z(a.operand.row_ids[row + r]) : row + r) * groups;
    acc[r] = _mm512_setzero_ps();
  }
  Group w;
  for (std::size_t g = 0; g < groups; ++g) {
    load_group(l, weight + g * l.group_bytes, w);
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::size_t at = source[r] + g;
      __m512i sum = _mm512_setzero_si512();
      for (std::size_t j = 0; j < 8; ++j) {
        int quad = 0;
        std::memcpy(&quad, a.operand.q8 + at * z(kQuantGroup) + j * 4, 4);
        sum = _mm512_dpbusd_epi32(sum, w.quads[j], _mm512_set1_epi32(quad));
      }
      const __m512 scale = _mm512_mul_ps(w.d, _mm512_set1_ps(a.operand.q8_scale[at]));
      acc[r] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), acc[r]);
      acc[r] = _mm512_fmadd_ps(w.offset, _mm512_set1_ps(a.operand.q8_sum[at]), acc[r]);
    }
  }
  const std::size_t first = panel * z(kPanelColumns);
  const std::size_t columns = std::min(z(kPanelColumns), z(a.weight.n) - first);
  const auto mask = static_cast<__mmask16>((1U << columns) - 1U);
  for (std::size_t r = 0; r < Rows; ++r) {
    float* out = a.out + (row + r) * a.out_stride + first;
    __m512 v = acc[r];
    if (a.bias != nullptr) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, a.bias + first));
    if (a.accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), v);
    _mm512_mask_storeu_ps(out, mask, v);
  }
}

void matmul(const MatmulArgs& a) {
  if (!is_quantized(a.weight.source)) return ref_table().matmul(a);
  HP_CHECK(a.operand.kind == OperandKind::q8 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  const PanelLayout l = panel_layout(a.weight.source);
  const std::size_t m = z(a.m);
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    std::size_t r = 0;
    for (; r + 8 <= m; r += 8) q8_rows<8>(a, l, p, r);
    for (; r + 2 <= m; r += 2) q8_rows<2>(a, l, p, r);
    for (; r < m; ++r) q8_rows<1>(a, l, p, r);
  }
}

}  // namespace

#pragma GCC pop_options

bool avx512_available() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}

const KernelTable& avx512_table() {
  static const KernelTable kTable = [] {
    KernelTable t = ref_table();
    t.isa = Isa::avx512;
    t.operand_kind = operand_kind;
    t.matmul = matmul;
    return t;
  }();
  return kTable;
}

}  // namespace hp::kernels
