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
constexpr std::size_t kTurnGroups = 1152;  // tiles × groups that are copied at a time: 360 KiB
constexpr std::size_t kExpandGroups = 16;  // of one panel expanded at a time: 14 KiB
constexpr std::size_t kSumRows = 8192;     // rows × panels whose sums are kept between stretches: 512 KiB

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

/// Asks for a cache line; g++ 12 leaves out calls of inline functions that only use the intrinsic.
template <_mm_hint kHint>
inline void prefetch(const void* at) {
  asm volatile("");
  _mm_prefetch(static_cast<const char*>(at), kHint);
}

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
    for (std::size_t r = 0; r < rows; ++r) {
      any = _mm256_or_si256(any, turn_row<T>(x, source[r] + g, r, to));
      prefetch<_MM_HINT_T0>(x.q8 + (source[r] + kTileRows * groups + g) * z(kQuantGroupBytes));  // of the next tile
    }
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

/// Integer sums of a tile's group against P panels: of the whole in of[0], or of its halves.
template <std::size_t P>
struct TileSums {
  __m512i of[2][P][kTileRows];
};

/// Four bytes as an operand of assembly.
using Four = const std::int8_t[4];
inline Four& four_at(const std::int8_t* x) {
  return *reinterpret_cast<Four*>(x);
}

/// sums += Σ q · x of four of K, of a tile's rows against one or two panels: every row's four bytes are broadcast once.
/// As one block of assembly, since g++ 12 moves the loads of many such steps up and then spills the sums.
inline void dot_quads(__m512i (&sums)[2][kTileRows], const __m512i& w0, const __m512i& w1, const std::int8_t* x) {
  __m512i q0, q1, four;
  asm("vmovdqa64 %[w0], %[q0]\n\tvmovdqa64 %[w1], %[q1]\n\t"
      "vpbroadcastd %[x0], %[four]\n\tvpdpbusd %[four], %[q0], %[a0]\n\tvpdpbusd %[four], %[q1], %[b0]\n\t"
      "vpbroadcastd %[x1], %[four]\n\tvpdpbusd %[four], %[q0], %[a1]\n\tvpdpbusd %[four], %[q1], %[b1]\n\t"
      "vpbroadcastd %[x2], %[four]\n\tvpdpbusd %[four], %[q0], %[a2]\n\tvpdpbusd %[four], %[q1], %[b2]\n\t"
      "vpbroadcastd %[x3], %[four]\n\tvpdpbusd %[four], %[q0], %[a3]\n\tvpdpbusd %[four], %[q1], %[b3]"
      : [a0] "+v"(sums[0][0]), [a1] "+v"(sums[0][1]), [a2] "+v"(sums[0][2]), [a3] "+v"(sums[0][3]),
        [b0] "+v"(sums[1][0]), [b1] "+v"(sums[1][1]), [b2] "+v"(sums[1][2]), [b3] "+v"(sums[1][3]), [q0] "=&v"(q0),
        [q1] "=&v"(q1), [four] "=&v"(four)
      : [w0] "m"(w0), [w1] "m"(w1), [x0] "m"(four_at(x)), [x1] "m"(four_at(x + 32)), [x2] "m"(four_at(x + 64)),
        [x3] "m"(four_at(x + 96)));
}
inline void dot_quads(__m512i (&sums)[1][kTileRows], const __m512i& w0, const std::int8_t* x) {
  __m512i q0;
  asm("vmovdqa64 %[w0], %[q0]\n\tvpdpbusd %[x0]%{1to16%}, %[q0], %[a0]\n\tvpdpbusd %[x1]%{1to16%}, %[q0], %[a1]\n\t"
      "vpdpbusd %[x2]%{1to16%}, %[q0], %[a2]\n\tvpdpbusd %[x3]%{1to16%}, %[q0], %[a3]"
      : [a0] "+v"(sums[0][0]), [a1] "+v"(sums[0][1]), [a2] "+v"(sums[0][2]), [a3] "+v"(sums[0][3]), [q0] "=&v"(q0)
      : [w0] "m"(w0), [x0] "m"(four_at(x)), [x1] "m"(four_at(x + 32)), [x2] "m"(four_at(x + 64)),
        [x3] "m"(four_at(x + 96)));
}

/// sums += Σ q · x of one plane of a tile's rows against P panels. Rows and panels go side by side: a row's products
/// wait for each other, four or five cycles each, and panels share the broadcasts, else loads would be the limit.
template <DType T, std::size_t P>
inline void dot(TileSums<P>& sums, const Group* const (&w)[P], const std::int8_t (*x)[32]) {
#pragma GCC unroll 8
  for (std::size_t j = 0; j < 8; ++j) {
    auto& to = sums.of[Packed<T>::kHalves ? j / 4 : 0];
    if constexpr (P == 2) {
      dot_quads(to, w[0]->quads[j], w[1]->quads[j], x[0] + j * 4);
    } else {
      dot_quads(to, w[0]->quads[j], x[0] + j * 4);
    }
  }
}

/// acc + one group's share of row r of a tile, given its exact sum or those of its halves.
template <DType T, bool kNarrow>
inline __m512 add_sums(__m512 acc, __m512i first, __m512i last, const Group& w, const TileGroup& x, std::size_t r) {
  const __m512 scale = _mm512_set1_ps(x.scale[r]);
  __m512 whole = _mm512_cvtepi32_ps(first);
  if constexpr (Packed<T>::kHalves) {
    whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(last), w.s1, _mm512_mul_ps(whole, w.s0));
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

/// sums + the zero point's share, which is that of every panel.
template <DType T, std::size_t P>
inline void add_zero(TileSums<P>& sums, const TileGroup& x) {
  if constexpr (Packed<T>::kZero == 0 || Packed<T>::kHalfMins) return;
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kTileRows; ++r) {
    const __m512i first = _mm512_set1_epi32(x.first[r]), last = _mm512_set1_epi32(x.last[r]);
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) {
      sums.of[0][p][r] = _mm512_add_epi32(sums.of[0][p][r], first);
      if constexpr (Packed<T>::kHalves) sums.of[1][p][r] = _mm512_add_epi32(sums.of[1][p][r], last);
    }
  }
}

/// Adds one group to a tile: the high planes, and unless it is narrow 16 times their sums and the low planes.
template <DType T, bool kNarrow, std::size_t P>
inline void add_group(__m512 (&acc)[P][kTileRows], const Group* const (&w)[P], const TileGroup& x) {
  constexpr std::size_t kHalves = Packed<T>::kHalves ? 2 : 1;
  TileSums<P> sums = {};
  if constexpr (kNarrow) add_zero<T>(sums, x);
  dot<T>(sums, w, x.high);
  if constexpr (!kNarrow) {
#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) {
#pragma GCC unroll 4
        for (std::size_t r = 0; r < kTileRows; ++r) sums.of[h][p][r] = _mm512_slli_epi32(sums.of[h][p][r], 4);
      }
    }
    add_zero<T>(sums, x);
    dot<T>(sums, w, x.low);
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) {
      acc[p][r] = add_sums<T, kNarrow>(acc[p][r], sums.of[0][p][r], sums.of[1][p][r], *w[p], x, r);
    }
  }
}

/// Weights that the next stretch wants: `step` bytes of each panel are asked for with every group of this one, so that
/// reads from memory go on under the products.
struct Ahead {
  const std::byte* at[2];
  std::size_t step;
};

/// Adds `count` groups to the sums of a tile's rows.
template <DType T, std::size_t P>
void add_tile(const Group (&stretch)[2][kExpandGroups], const TileGroup* x, const bool* narrow, std::size_t count,
              const Ahead& ahead, float (*const (&sums)[2])[16]) {
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
    for (std::size_t b = 0; b < ahead.step; b += 64) {
#pragma GCC unroll 2
      for (std::size_t p = 0; p < P; ++p) prefetch<_MM_HINT_T1>(ahead.at[p] + g * ahead.step + b);
    }
    if (narrow[g]) {
      add_group<T, true>(acc, w, x[g]);
    } else {
      add_group<T, false>(acc, w, x[g]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t p = 0; p < P; ++p) _mm512_store_ps(sums[p][r], acc[p][r]);
  }
}

/// Where group `group` of K of a panel lies, about: its share of the chunk.
template <DType T>
const std::byte* group_at(const std::byte* panel, std::size_t group) {
  constexpr std::size_t kPerChunk = Packed<T>::kGroups, kBytes = Packed<T>::kLayout.chunk_bytes;
  return panel + group / kPerChunk * kBytes + group % kPerChunk * (kBytes / kPerChunk);
}

/// Expands groups [first, first + count) of K of a panel.
template <DType T>
void expand(const std::byte* panel, std::size_t first, std::size_t count, Group* out) {
  constexpr std::size_t kPerChunk = Packed<T>::kGroups;
  for (std::size_t g = first; g < first + count; ++g, ++out) {
    load_group<T>(panel + g / kPerChunk * Packed<T>::kLayout.chunk_bytes, g % kPerChunk, *out);
  }
}

/// Adds groups [first, first + count) of K of P panels to `rows` rows' sums. The P panels behind come next.
template <DType T, std::size_t P>
void add_panels(const std::byte* panel, std::size_t panel_bytes, std::size_t first, std::size_t count, const Turned& x,
                std::size_t rows, float (*const (&sums)[2])[16]) {
  constexpr std::size_t kEach = Packed<T>::kLayout.chunk_bytes / Packed<T>::kGroups;
  const std::size_t tiles = (rows + kTileRows - 1) / kTileRows;
  Group stretch[2][kExpandGroups];
  for (std::size_t g0 = 0; g0 < count; g0 += kExpandGroups) {
    const std::size_t part = std::min(kExpandGroups, count - g0);
    for (std::size_t p = 0; p < P; ++p) expand<T>(panel + p * panel_bytes, first + g0, part, stretch[p]);
    const bool ends = g0 + part == count;
    const std::byte* next = group_at<T>(ends ? panel + P * panel_bytes : panel, ends ? first : first + g0 + part);
    const std::size_t bytes = std::min(kExpandGroups, ends ? count : count - g0 - part) * kEach;
    const std::size_t step = (bytes + tiles * part - 1) / (tiles * part);
    for (std::size_t t = 0; t < tiles; ++t) {
      const std::size_t at = t * count + g0;
      float(*const tile[2])[16] = {sums[0] + t * kTileRows, sums[1] + t * kTileRows};
      const std::byte* share = next + t * part * step;
      add_tile<T, P>(stretch, x.groups + at, x.narrow + at, part, {{share, share + panel_bytes}, step}, tile);
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
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t p = p0; p < p1; ++p) store_columns(a, p, row + r, _mm512_load_ps(sums[(p - p0) * room + r]));
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
