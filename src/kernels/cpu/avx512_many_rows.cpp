// AVX-512 VNNI products of every quantized layout for many rows: the same operations on a row, in the same order, as
// avx512_kquant.cpp, arranged for arithmetic instead of memory.
//
// A stretch of K of up to kMostRows rows is copied so that a tile of 8 rows lies together (one pointer, constant
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

constexpr std::size_t kTileRows = 8;
constexpr std::size_t kMostRows = 256;     // rows that share an expanded stretch
constexpr std::size_t kTurnGroups = 512;   // tiles × groups that are copied at a time: 320 KiB
constexpr std::size_t kExpandGroups = 16;  // of one panel expanded at a time: 14 KiB
constexpr std::size_t kSumRows = 4096;     // rows × panels whose sums are kept between stretches: 256 KiB
constexpr std::size_t kPrefetchBytes = 4096;

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

/// A group of 8 rows' activations.
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

/// sum + Σ q · x of 16 columns and 4 of K, the four bytes broadcast by the product itself: g++ 12 takes an instruction
/// of its own for it, and their number is what limits a tile.
inline __m512i dot_four(__m512i sum, __m512i q, const std::int8_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(q), "m"(*reinterpret_cast<const std::int8_t(*)[4]>(x)));
  return sum;
}

/// Integer sums of a row's group: of the whole in [0], or of its halves.
struct RowSums {
  __m512i of[2];
};

/// sums += Σ q · x of one plane of R rows, side by side: a row's products wait for each other, four cycles each.
template <DType T, std::size_t R>
inline void dot(RowSums (&sums)[R], const Group& w, const std::int8_t (*x)[32]) {
#pragma GCC unroll 8
  for (std::size_t j = 0; j < 8; ++j) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      __m512i& to = sums[r].of[Packed<T>::kHalves ? j / 4 : 0];
      to = dot_four(to, w.quads[j], x[r] + j * 4);
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

/// Adds one group to rows [first, first + R) of a tile.
template <DType T, bool kNarrow, std::size_t R>
inline void add_rows(__m512* acc, const Group& w, const TileGroup& x, std::size_t first) {
  constexpr bool kBegins = Packed<T>::kZero != 0 && !Packed<T>::kHalfMins;
  const __m512i none = _mm512_setzero_si512();
  RowSums sums[R], high[R];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    sums[r].of[0] = kBegins ? _mm512_set1_epi32(x.first[first + r]) : none;
    sums[r].of[1] = kBegins && Packed<T>::kHalves ? _mm512_set1_epi32(x.last[first + r]) : none;
    high[r].of[0] = high[r].of[1] = none;
  }
  if constexpr (kNarrow) {
    dot<T>(sums, w, x.high + first);
  } else {
    dot<T>(high, w, x.high + first);
    dot<T>(sums, w, x.low + first);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      sums[r].of[0] = _mm512_add_epi32(sums[r].of[0], _mm512_slli_epi32(high[r].of[0], 4));
      if constexpr (Packed<T>::kHalves) {
        sums[r].of[1] = _mm512_add_epi32(sums[r].of[1], _mm512_slli_epi32(high[r].of[1], 4));
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) {
    acc[first + r] = add_sums<T, kNarrow>(acc[first + r], sums[r], w, x, first + r);
  }
}

/// Adds `count` groups to the sums of R rows of a tile.
template <DType T, std::size_t R>
void add_tile(const Group* stretch, const TileGroup* x, const bool* narrow, std::size_t count, float (*sums)[16]) {
  __m512 acc[R];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) acc[r] = _mm512_load_ps(sums[r]);
  for (std::size_t g = 0; g < count; ++g) {
    const Group& w = stretch[g];
    if (narrow[g]) {
      add_rows<T, true, 4>(acc, w, x[g], 0);
      if constexpr (R == 8) add_rows<T, true, 4>(acc, w, x[g], 4);
    } else {
      add_rows<T, false, 4>(acc, w, x[g], 0);
      if constexpr (R == 8) add_rows<T, false, 4>(acc, w, x[g], 4);
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r) _mm512_store_ps(sums[r], acc[r]);
}

/// Adds groups [first, first + count) of K of one panel to `rows` rows' sums.
template <DType T>
void add_panel(const std::byte* panel, std::size_t first, std::size_t count, const Turned& x, std::size_t rows,
               float (*sums)[16]) {
  constexpr PanelLayout kL = Packed<T>::kLayout;
  constexpr std::size_t kPerChunk = Packed<T>::kGroups, kEach = kL.chunk_bytes / kPerChunk;
  Group stretch[kExpandGroups];
  for (std::size_t g0 = 0; g0 < count; g0 += kExpandGroups) {
    const std::size_t part = std::min(kExpandGroups, count - g0);
    for (std::size_t i = 0; i < part; ++i) {
      const std::size_t g = first + g0 + i;
      const std::byte* chunk = panel + g / kPerChunk * kL.chunk_bytes;
      for (std::size_t b = 0; b < kEach; b += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(chunk + g % kPerChunk * kEach + kPrefetchBytes + b), _MM_HINT_T0);
      }
      load_group<T>(chunk, g % kPerChunk, stretch[i]);
    }
    for (std::size_t r = 0; r < rows; r += kTileRows) {
      const std::size_t at = r / kTileRows * count + g0;
      if (rows - r > kTileRows / 2) {
        add_tile<T, kTileRows>(stretch, x.groups + at, x.narrow + at, part, sums + r);
      } else {
        add_tile<T, kTileRows / 2>(stretch, x.groups + at, x.narrow + at, part, sums + r);
      }
    }
  }
}

template <DType T>
void multiply_rows(const MatmulArgs& a, std::size_t row, std::size_t rows) {
  Turned turned;
  alignas(64) float sums[kSumRows][16];
  const std::size_t groups = z(a.weight.k) / 32, tiles = (rows + kTileRows - 1) / kTileRows, room = tiles * kTileRows;
  const std::size_t each = std::min(groups, kTurnGroups / tiles);
  const std::size_t together = each == groups ? 1 : kSumRows / room;  // panels
  for (std::size_t p0 = z(a.panel_begin); p0 < z(a.panel_end); p0 += together) {
    const std::size_t p1 = std::min(p0 + together, z(a.panel_end));
    for (std::size_t g = 0; g < groups; g += each) {
      const std::size_t count = std::min(each, groups - g);
      if (each < groups || p0 == z(a.panel_begin)) {
        for (std::size_t t = 0; t < tiles; ++t) {
          turn_tile<T>(a.operand, row + t * kTileRows, std::min(kTileRows, rows - t * kTileRows), g, count,
                       turned.groups + t * count, turned.narrow + t * count);
        }
      }
      for (std::size_t p = p0; p < p1; ++p) {
        float(*const own)[16] = sums + (p - p0) * room;
        if (g == 0) std::memset(own, 0, room * sizeof(sums[0]));
        add_panel<T>(a.weight.data + p * a.weight.panel_bytes, g, count, turned, rows, own);
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
