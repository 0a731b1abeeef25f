// AVX-512 VNNI products of every quantized layout for many rows: the same operations on a row, in the same order, as
// avx512_kquant.cpp, arranged for arithmetic instead of memory.
//
// A stretch of K of up to kMostRows rows is copied so that a tile of 4 rows lies together (one pointer, constant
// offsets), stays in the second cache, and every panel of the call goes over it; a panel's share of the stretch is
// expanded into the first cache. Zero points are not multiplied: their share is what a row's sum begins with. A group
// whose low planes are zero in all rows of a tile (activations without outliers, see ref.cpp's to_q8) takes half of the
// products; adding zeros would give the same bits.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_kquant.h"
#include "kernels/cpu/avx512_q8.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::size_t kTileRows = 4;       // their sums for two panels fit the registers
constexpr std::size_t kMostRows = 256;     // rows that share an expanded stretch
constexpr std::size_t kTurnGroups = 1024;  // tiles × groups that are copied at a time: 320 KiB
constexpr std::size_t kExpandGroups = 16;  // of one panel expanded at a time: 14 KiB
constexpr std::size_t kSumRows = 4096;     // rows × panels whose sums are kept between stretches: 256 KiB
constexpr std::size_t kPrefetchBytes = 4096;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// A group of a tile's activations.
struct TileGroup {
  std::int8_t high[kTileRows][32];
  std::int8_t low[kTileRows][32];
  float scale[kTileRows];  ///< where the tile is narrow, 16 times: of the high plane alone
  float sum[kTileRows];
  std::int32_t first[kTileRows];  ///< what a sum begins with: -zero · Σq of the whole group or its first half,
  std::int32_t last[kTileRows];   ///< of its last half; with minimums per half Σq themselves
};

struct Turned {
  alignas(64) TileGroup groups[kTurnGroups];
  bool narrow[kTurnGroups];
};

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace {

/// Copies one row's share of a tile's group; gives the OR of its low plane.
template <DType T>
inline __m256i turn_row(const Operand& x, std::size_t i, std::size_t r, TileGroup& out) {
  constexpr int kZero = Packed<T>::kZero;
  const std::int8_t* q = x.q8 + i * z(kQuantGroupBytes);
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + 32));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.high[r]), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.low[r]), low);
  out.scale[r] = x.q8_scale[i];
  if constexpr (Packed<T>::kMin) out.sum[r] = x.q8_sum[i];
  const std::int32_t first = static_cast<std::int16_t>(x.q8_isum[i] & 0xFFFF), last = x.q8_isum[i] >> 16;
  if constexpr (Packed<T>::kHalfMins) {
    out.first[r] = first;
    out.last[r] = last;
  } else if constexpr (Packed<T>::kHalves) {
    out.first[r] = -kZero * first;
    out.last[r] = -kZero * last;
  } else if constexpr (kZero != 0) {
    out.first[r] = -kZero * (first + last);
  }
  return low;
}

/// Copies `count` groups from group `first` of K of a tile's rows; rows beyond `rows` are zero.
template <DType T>
void turn_tile(const Operand& x, std::size_t row, std::size_t rows, std::size_t first, std::size_t count,
               TileGroup* out, bool* narrow) {
  const std::size_t groups = z(x.k) / 32;
  std::size_t source[kTileRows];
  for (std::size_t r = 0; r < rows; ++r) source[r] = source_row(x, row + r) * groups + first;
  for (std::size_t g = 0; g < count; ++g) {
    TileGroup& to = out[g];
    if (rows < kTileRows) std::memset(&to, 0, sizeof(to));
    __m256i any = _mm256_setzero_si256();
    for (std::size_t r = 0; r < rows; ++r) any = _mm256_or_si256(any, turn_row<T>(x, source[r] + g, r, to));
    narrow[g] = _mm256_testz_si256(any, any) != 0;
    if (!narrow[g]) continue;
    for (std::size_t r = 0; r < rows; ++r) {
      to.scale[r] *= 16.0F;  // exact, and so are the sums in sixteenths
      if constexpr (!Packed<T>::kHalfMins) {
        to.first[r] /= 16;
        to.last[r] /= 16;
      }
    }
  }
}

/// Integer sums of a row's group: of the whole in [0], or of its halves.
struct RowSums {
  __m512i of[2];
};

/// sums += Σ q · x of one plane of R rows against P panels. Rows and panels go side by side: a row's products wait for
/// each other, four cycles each, and panels share the broadcasts, else loads would be the limit.
template <DType T, std::size_t P, std::size_t R>
inline void dot(RowSums (&sums)[P][R], const Group* const (&w)[P], const std::int8_t (*x)[32]) {
#pragma GCC unroll 8
  for (std::size_t j = 0; j < 8; ++j) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r) {
      const __m512i four = four_bytes(x[r] + j * 4);
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) {
        __m512i& to = sums[p][r].of[Packed<T>::kHalves ? j / 4 : 0];
        to = _mm512_dpbusd_epi32(to, w[p]->quads[j], four);
      }
    }
  }
}

/// acc + one group's share of row r of a tile, given its exact sums.
template <DType T, bool kNarrow>
inline __m512 add_sums(__m512 acc, const RowSums& sums, const Group& w, const TileGroup& x, std::size_t r) {
  const __m512 scale = _mm512_set1_ps(x.scale[r]);
  __m512 whole = _mm512_cvtepi32_ps(sums.of[0]);
  if constexpr (Packed<T>::kHalves) {
    whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.of[1]), w.s1, _mm512_mul_ps(whole, w.s0));
  }
  acc = _mm512_fmadd_ps(whole, _mm512_mul_ps(w.d, scale), acc);
  if constexpr (Packed<T>::kMin) acc = _mm512_fmadd_ps(w.min, _mm512_set1_ps(x.sum[r]), acc);
  if constexpr (Packed<T>::kHalfMins) {
    const __m512 each = kNarrow ? _mm512_mul_ps(scale, _mm512_set1_ps(1.0F / 16.0F)) : scale;
    const __m512 mins = _mm512_fmadd_ps(w.m1, _mm512_set1_ps(static_cast<float>(x.last[r])),
                                        _mm512_mul_ps(w.m0, _mm512_set1_ps(static_cast<float>(x.first[r]))));
    acc = _mm512_fnmadd_ps(mins, _mm512_mul_ps(w.min, each), acc);
  }
  return acc;
}

/// What a row's sums begin with: the zero point's share.
template <DType T>
inline RowSums begin(const TileGroup& x, std::size_t r) {
  constexpr bool kBegins = Packed<T>::kZero != 0 && !Packed<T>::kHalfMins;
  const __m512i none = _mm512_setzero_si512();
  return {{kBegins ? _mm512_set1_epi32(x.first[r]) : none,
           kBegins && Packed<T>::kHalves ? _mm512_set1_epi32(x.last[r]) : none}};
}

/// Adds one group's high planes to a tile of R rows and P panels.
template <DType T, std::size_t P, std::size_t R>
inline void add_narrow(__m512 (&acc)[P][R], const Group* const (&w)[P], const TileGroup& x) {
  RowSums sums[P][R];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) sums[p][r] = begin<T>(x, r);
  }
  dot<T>(sums, w, x.high);
#pragma GCC unroll 4
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) acc[p][r] = add_sums<T, true>(acc[p][r], sums[p][r], *w[p], x, r);
  }
}

/// sum + Σ q · x of 16 columns and 4 of K, the four bytes broadcast by the product itself, which g++ 12 does not do.
inline __m512i dot_four(__m512i sum, __m512i q, const std::int8_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(q), "m"(*reinterpret_cast<const std::int8_t(*)[4]>(x)));
  return sum;
}

/// acc + one group's share of both planes of row r and one panel. Two chains a row, and rows one after the other: the
/// sums of more would not fit the registers beside the panel's quants.
template <DType T>
inline __m512 add_wide(__m512 acc, const Group& w, const TileGroup& x, std::size_t r) {
  RowSums sums = begin<T>(x, r), high = {{_mm512_setzero_si512(), _mm512_setzero_si512()}};
#pragma GCC unroll 8
  for (std::size_t j = 0; j < 8; ++j) {
    __m512i& to = high.of[Packed<T>::kHalves ? j / 4 : 0];
    to = dot_four(to, w.quads[j], x.high[r] + j * 4);
  }
#pragma GCC unroll 8
  for (std::size_t j = 0; j < 8; ++j) {
    __m512i& to = sums.of[Packed<T>::kHalves ? j / 4 : 0];
    to = dot_four(to, w.quads[j], x.low[r] + j * 4);
  }
  sums.of[0] = _mm512_add_epi32(sums.of[0], _mm512_slli_epi32(high.of[0], 4));
  if constexpr (Packed<T>::kHalves) sums.of[1] = _mm512_add_epi32(sums.of[1], _mm512_slli_epi32(high.of[1], 4));
  return add_sums<T, false>(acc, sums, w, x, r);
}

/// Adds `count` groups to the sums of a tile's rows.
template <DType T, std::size_t P>
void add_tile(const Group (&stretch)[2][kExpandGroups], const TileGroup* x, const bool* narrow, std::size_t count,
              float (*const (&sums)[2])[16]) {
  __m512 acc[P][kTileRows];
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) acc[p][r] = _mm512_load_ps(sums[p][r]);
  }
  for (std::size_t g = 0; g < count; ++g) {
    const Group* w[P];
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) w[p] = &stretch[p][g];
    if (narrow[g]) {
      add_narrow<T>(acc, w, x[g]);
      continue;
    }
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < kTileRows; ++r) acc[p][r] = add_wide<T>(acc[p][r], *w[p], x[g], r);
    }
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) _mm512_store_ps(sums[p][r], acc[p][r]);
  }
}

/// Expands groups [first, first + count) of K of a panel.
template <DType T>
void expand(const std::byte* panel, std::size_t first, std::size_t count, Group* out) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  constexpr std::size_t kPerChunk = Packed<T>::kGroups, kEach = kL.chunk_bytes / kPerChunk;
  for (std::size_t g = first; g < first + count; ++g, ++out) {
    const std::byte* chunk = panel + g / kPerChunk * kL.chunk_bytes;
    for (std::size_t b = 0; b < kEach; b += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(chunk + g % kPerChunk * kEach + kPrefetchBytes + b), _MM_HINT_T0);
    }
    load_group<T>(chunk, g % kPerChunk, *out);
  }
}

/// Adds groups [first, first + count) of K of P panels to `rows` rows' sums.
template <DType T, std::size_t P>
void add_panels(const std::byte* panel, std::size_t panel_bytes, std::size_t first, std::size_t count, const Turned& x,
                std::size_t rows, float (*const (&sums)[2])[16]) {
  Group stretch[2][kExpandGroups];
  for (std::size_t g0 = 0; g0 < count; g0 += kExpandGroups) {
    const std::size_t part = std::min(kExpandGroups, count - g0);
    for (std::size_t p = 0; p < P; ++p) expand<T>(panel + p * panel_bytes, first + g0, part, stretch[p]);
    for (std::size_t r = 0; r < rows; r += kTileRows) {
      const std::size_t at = r / kTileRows * count + g0;
      float(*const tile[2])[16] = {sums[0] + r, sums[1] + r};
      add_tile<T, P>(stretch, x.groups + at, x.narrow + at, part, tile);
    }
  }
}

template <DType T>
void multiply_rows(const MatmulArgs& a, std::size_t row, std::size_t rows) {
  Turned turned;
  alignas(64) float sums[kSumRows][16];
  const std::size_t groups = z(a.weight.k) / 32, tiles = (rows + kTileRows - 1) / kTileRows, room = tiles * kTileRows;
  const std::size_t each = std::min(groups, kTurnGroups / tiles);
  const std::size_t together = each == groups ? 2 : kSumRows / room;  // panels
  for (std::size_t p0 = z(a.panel_begin); p0 < z(a.panel_end); p0 += together) {
    const std::size_t p1 = std::min(p0 + together, z(a.panel_end));
    std::memset(sums, 0, (p1 - p0) * room * sizeof(sums[0]));
    for (std::size_t g = 0; g < groups; g += each) {
      const std::size_t count = std::min(each, groups - g);
      for (std::size_t t = 0; t < tiles && (each < groups || p0 == z(a.panel_begin)); ++t) {
        turn_tile<T>(a.operand, row + t * kTileRows, std::min(kTileRows, rows - t * kTileRows), g, count,
                     turned.groups + t * count, turned.narrow + t * count);
      }
      for (std::size_t p = p0; p < p1; p += 2) {
        float(*const first)[16] = sums + (p - p0) * room;
        float(*const own[2])[16] = {first, first + room};
        const std::byte* panel = a.weight.data + p * a.weight.panel_bytes;
        if (p + 1 < p1) {
          add_panels<T, 2>(panel, a.weight.panel_bytes, g, count, turned, rows, own);
        } else {
          add_panels<T, 1>(panel, a.weight.panel_bytes, g, count, turned, rows, own);
        }
      }
    }
    for (std::size_t p = p0; p < p1; ++p) {
      for (std::size_t r = 0; r < rows; ++r) store_columns(a, p, row + r, _mm512_load_ps(sums[(p - p0) * room + r]));
    }
  }
}

template <DType T>
void multiply(const MatmulArgs& a) {
  for (std::size_t r = 0; r < z(a.m); r += kMostRows) multiply_rows<T>(a, r, std::min(kMostRows, z(a.m) - r));
}

}  // namespace

#pragma GCC pop_options

void matmul_many_rows(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::q8 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  switch (a.weight.source) {
    case DType::q4_0:
      return multiply<DType::q4_0>(a);
    case DType::q4_1:
      return multiply<DType::q4_1>(a);
    case DType::q8_0:
      return multiply<DType::q8_0>(a);
    case DType::q5_0:
      return multiply<DType::q5_0>(a);
    case DType::q5_1:
      return multiply<DType::q5_1>(a);
    case DType::q2_k:
      return multiply<DType::q2_k>(a);
    case DType::q3_k:
      return multiply<DType::q3_k>(a);
    case DType::q4_k:
      return multiply<DType::q4_k>(a);
    case DType::q5_k:
      return multiply<DType::q5_k>(a);
    case DType::q6_k:
      return multiply<DType::q6_k>(a);
    case DType::iq4_nl:
      return multiply<DType::iq4_nl>(a);
    case DType::iq4_xs:
      return multiply<DType::iq4_xs>(a);
    case DType::i4_32:
      return multiply<DType::i4_32>(a);
    case DType::i4_64:
      return multiply<DType::i4_64>(a);
    case DType::i4_128:
      return multiply<DType::i4_128>(a);
    case DType::i8_32:
      return multiply<DType::i8_32>(a);
    default:
      HP_CHECK(false, "no q8 product of {}", traits(a.weight.source).name);
  }
}

}  // namespace hp::kernels::avx512
