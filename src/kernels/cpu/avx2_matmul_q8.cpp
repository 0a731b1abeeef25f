// AVX2 products of every quantized layout with q8 activations: a stretch of a panel is expanded into the first-level
// cache, then every row goes over it. One row and many rows run the same code.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx2_kernels.h"
#include "kernels/cpu/avx2_q8.h"

namespace hp::kernels::avx2 {
namespace {

constexpr std::size_t kPrefetchBytes = 4096;
constexpr std::size_t kStretch = 8;      // groups expanded at a time
constexpr std::size_t kChunkRows = 256;  // rows that share an expanded stretch

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace {

template <DType T>
void expand(const std::byte* panel, std::size_t first, std::size_t count, Group* out) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  constexpr std::size_t kGroups = Packed<T>::kGroups, kEach = kL.chunk_bytes / kGroups;
  for (std::size_t i = 0; i < count; ++i) {
    const std::byte* chunk = panel + (first + i) / kGroups * kL.chunk_bytes;
    const std::size_t g = (first + i) % kGroups;
    for (std::size_t b = 0; b < kEach; b += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(chunk + g * kEach + kPrefetchBytes + b), _MM_HINT_T0);
    }
    load_group<T>(chunk, g, out[i]);
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

template <DType T>
void panel_rows(const MatmulArgs& a, std::size_t panel, std::size_t row, std::size_t rows) {
  alignas(32) float sums[kChunkRows][16];
  Group stretch[kStretch];
  std::memset(sums, 0, rows * sizeof(sums[0]));
  const std::size_t groups = z(a.weight.k) / 32;
  const std::byte* weight = a.weight.data + panel * a.weight.panel_bytes;
  for (std::size_t g0 = 0; g0 < groups; g0 += kStretch) {
    const std::size_t count = std::min(kStretch, groups - g0);
    expand<T>(weight, g0, count, stretch);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t source = a.operand.row_ids != nullptr ? z(a.operand.row_ids[row + r]) : row + r;
      F16 acc = load(sums[r]);
      for (std::size_t g = 0; g < count; ++g) {
        const std::size_t i = source * groups + g0 + g;
        acc = dot_group<T>(acc, stretch[g],
                           {.q = a.operand.q8 + i * z(kQuantGroupBytes),
                            .scale = a.operand.q8_scale + i,
                            .sum = a.operand.q8_sum + i,
                            .isum = a.operand.q8_isum + i});
      }
      store(sums[r], acc);
    }
  }
  for (std::size_t r = 0; r < rows; ++r) store_row(a, panel, row + r, load(sums[r]));
}

template <DType T>
void matmul_layout(const MatmulArgs& a) {
  for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
    for (std::size_t r = 0; r < z(a.m); r += kChunkRows) panel_rows<T>(a, p, r, std::min(kChunkRows, z(a.m) - r));
  }
}

}  // namespace

#pragma GCC pop_options

void matmul_q8(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::q8 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  switch (a.weight.source) {
    case DType::q4_0:
      return matmul_layout<DType::q4_0>(a);
    case DType::q4_1:
      return matmul_layout<DType::q4_1>(a);
    case DType::q5_0:
      return matmul_layout<DType::q5_0>(a);
    case DType::q5_1:
      return matmul_layout<DType::q5_1>(a);
    case DType::q8_0:
      return matmul_layout<DType::q8_0>(a);
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

}  // namespace hp::kernels::avx2
