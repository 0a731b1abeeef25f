// AMX products of quantized weights with prepared 12-bit activations, 16 rows × 16 columns × 32 of K at a time.
//
// A row of the left tile is a group of activations, [32 high, 32 low] bytes. Narrow weights (4 bits and fewer) make a
// right tile [16 · w; w], so one tile product gives Σ w · (16 · high + low) exactly; wide ones take a product per
// plane. Layouts with a scale per 16 of K take a right tile per half, zeros in the other. The rest of a group's
// arithmetic is add_group of the AVX-512 kernels, in the same order: the same bits.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include "kernels/cpu/amx_kernels.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/amx_tile.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_kquant.h"
#include "kernels/cpu/avx512_q8.h"
#include "kernels/isa_tables.h"

namespace hp::kernels::amx {
namespace {

using avx512::Group;

using avx512::RowGroup;

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kStretch = 24;     // groups of K expanded at a time: with their activations in the first cache
constexpr std::size_t kChunkRows = 256;  // most rows that share an expanded stretch
constexpr std::size_t kChunkGroups = 32768;  // rows × groups of a chunk: its scales stay in the second cache
constexpr std::size_t kPlanes = 64;          // bytes of a group of activations

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

template <DType T>
struct Tiling {
  static constexpr PanelLayout kL = Packed<T>::kLayout;
  static constexpr bool kNarrow = kL.low_bits + kL.high_bits <= 4 && !kL.lookup;
  static constexpr bool kUnsigned = kNarrow && kL.zero == 0;  // 16 · 15 needs the sign's bit
  static constexpr std::size_t kHalves = Packed<T>::kHalves ? 2 : 1;
  static constexpr std::size_t kSums = kHalves * (kNarrow ? 1 : 2);  // result tiles per group
};

/// A stretch of one panel as right tiles (one per half), and its scales as floats.
template <DType T>
struct Stretch {
  alignas(64) std::int8_t tiles[kStretch][Tiling<T>::kHalves][Tiling<T>::kNarrow ? 1024 : 512];
  Group scales[kStretch];  // less quads
};

/// A chunk's scales and sums with the rows of a tile side by side: [tiles, groups, 16].
struct Chunk {
  alignas(64) float scale[kChunkGroups];
  alignas(64) float sum[kChunkGroups];
  alignas(64) std::int32_t isum[kChunkGroups];
};

/// A stretch of a tile's rows that do not lie one after the other, copied.
struct Gathered {
  alignas(64) std::int8_t q[kTileRows][kStretch * kPlanes];
};

template <DType T>
void turn_scales(const MatmulArgs& a, std::size_t row, std::size_t rows, Chunk& out) {
  const std::size_t groups = z(a.weight.k) / 32;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t from = avx512::source_row(a.operand, row + r) * groups;
    const std::size_t to = r / kTileRows * groups * kTileRows + r % kTileRows;
    for (std::size_t g = 0; g < groups; ++g) {
      out.scale[to + g * kTileRows] = a.operand.q8_scale[from + g];
      if constexpr (Packed<T>::kMin) out.sum[to + g * kTileRows] = a.operand.q8_sum[from + g];
      if constexpr (Packed<T>::kHalfMins) out.isum[to + g * kTileRows] = a.operand.q8_isum[from + g];
    }
  }
}

}  // namespace

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")

namespace {

/// Result tiles of one group in memory: [sums][16 rows][16 columns].
template <DType T>
using Sums = std::int32_t[Tiling<T>::kSums][kTileRows][16];

template <DType T>
void expand(const std::byte* panel, std::size_t first, std::size_t groups, Stretch<T>& out) {
  using L = Tiling<T>;
  constexpr std::size_t kPerChunk = Packed<T>::kGroups;
  const __m512i zero = _mm512_set1_epi8(static_cast<char>(L::kL.zero));
  for (std::size_t i = 0; i < groups; ++i) {
    const std::size_t g = first + i;
    Group& w = out.scales[i];
    avx512::load_group<T>(panel + g / kPerChunk * L::kL.chunk_bytes, g % kPerChunk, w);
    for (std::size_t h = 0; h < L::kHalves; ++h) {
      for (std::size_t j = 0; j < 8; ++j) {
        __m512i quad = _mm512_sub_epi8(w.quads[j], zero);
        if (L::kHalves == 2 && j / 4 != h) quad = _mm512_setzero_si512();
        std::int8_t* tile = out.tiles[i][h];
        if constexpr (L::kNarrow) {
          const __m512i high = _mm512_and_si512(_mm512_slli_epi16(quad, 4), _mm512_set1_epi8(static_cast<char>(0xF0)));
          _mm512_store_si512(tile + j * 64, high);
          _mm512_store_si512(tile + 512 + j * 64, quad);
        } else {
          _mm512_store_si512(tile + j * 64, quad);
        }
      }
    }
  }
}

// Tile numbers must be literals. Narrow: 0, 1 results, 4 left, 6, 7 right; wide: 0..3 results, 4, 5 left, 6, 7 right.
template <DType T>
void multiply_group(const std::int8_t* q, std::size_t q_stride,
                    const std::int8_t (&right)[Tiling<T>::kHalves][Tiling<T>::kNarrow ? 1024 : 512], Sums<T>& out) {
  using L = Tiling<T>;
  _tile_zero(0);
  if constexpr (L::kSums >= 2) _tile_zero(1);
  if constexpr (L::kSums == 4) {
    _tile_zero(2);
    _tile_zero(3);
  }
  _tile_loadd(4, q, q_stride);
  _tile_loadd(6, right[0], 64);
  if constexpr (L::kHalves == 2) _tile_loadd(7, right[1], 64);
  if constexpr (L::kUnsigned) {
    _tile_dpbsud(0, 4, 6);
    if constexpr (L::kHalves == 2) _tile_dpbsud(1, 4, 7);
  } else if constexpr (L::kNarrow) {
    _tile_dpbssd(0, 4, 6);
    if constexpr (L::kHalves == 2) _tile_dpbssd(1, 4, 7);
  } else {
    _tile_loadd(5, q + 32, q_stride);
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 5, 6);
    if constexpr (L::kHalves == 2) {
      _tile_dpbssd(2, 4, 7);
      _tile_dpbssd(3, 5, 7);
    }
  }
  _tile_stored(0, out[0], 64);
  if constexpr (L::kSums >= 2) _tile_stored(1, out[1], 64);
  if constexpr (L::kSums == 4) {
    _tile_stored(2, out[2], 64);
    _tile_stored(3, out[3], 64);
  }
}

/// Σ (q - zero) · x of a row's first or only, or last half.
template <DType T>
inline __m512i whole_sum(const Sums<T>& sums, std::size_t half, std::size_t row) {
  if constexpr (Tiling<T>::kNarrow) {
    return _mm512_load_si512(sums[half][row]);
  } else {
    const __m512i high = _mm512_slli_epi32(_mm512_load_si512(sums[2 * half][row]), 4);
    return _mm512_add_epi32(high, _mm512_load_si512(sums[2 * half + 1][row]));
  }
}

template <DType T>
inline __m512 add_row(__m512 acc, const Sums<T>& sums, const Group& w, const Chunk& x, std::size_t at, std::size_t r) {
  const __m512i first = whole_sum<T>(sums, 0, r);
  const __m512i last = Tiling<T>::kHalves == 2 ? whole_sum<T>(sums, Tiling<T>::kHalves - 1, r) : first;
  return avx512::add_group<T>(acc, first, last, w,
                              RowGroup{nullptr, x.scale + at + r, x.sum + at + r, x.isum + at + r});
}

/// Adds a stretch to 16 rows' sums. The products of a group run while the one before is scaled and added. `at` is where
/// the tile's first group lies in the chunk.
template <DType T>
void add_stretch(const std::int8_t* q, std::size_t q_stride, const Chunk& x, std::size_t at, const Stretch<T>& w,
                 std::size_t groups, float (*totals)[16]) {
  alignas(64) Sums<T> sums[2];
  __m512 acc[kTileRows];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kTileRows; ++r) acc[r] = _mm512_load_ps(totals[r]);
  multiply_group<T>(q, q_stride, w.tiles[0], sums[0]);
  for (std::size_t g = 0; g < groups; ++g) {
    if (g + 1 < groups) multiply_group<T>(q + (g + 1) * kPlanes, q_stride, w.tiles[g + 1], sums[(g + 1) % 2]);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kTileRows; ++r) {
      acc[r] = add_row<T>(acc[r], sums[g % 2], w.scales[g], x, at + g * kTileRows, r);
    }
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kTileRows; ++r) _mm512_store_ps(totals[r], acc[r]);
}

/// The last, short tile of rows.
template <DType T>
void add_stretch_short(const std::int8_t* q, std::size_t q_stride, const Chunk& x, std::size_t at, const Stretch<T>& w,
                       std::size_t groups, std::size_t rows, float (*totals)[16]) {
  alignas(64) Sums<T> sums[2];
  multiply_group<T>(q, q_stride, w.tiles[0], sums[0]);
  for (std::size_t g = 0; g < groups; ++g) {
    if (g + 1 < groups) multiply_group<T>(q + (g + 1) * kPlanes, q_stride, w.tiles[g + 1], sums[(g + 1) % 2]);
    for (std::size_t r = 0; r < rows; ++r) {
      const __m512 acc = _mm512_load_ps(totals[r]);
      _mm512_store_ps(totals[r], add_row<T>(acc, sums[g % 2], w.scales[g], x, at + g * kTileRows, r));
    }
  }
}

template <DType T>
TileConfig tiles_of(std::size_t rows) {
  TileConfig c;
  const std::size_t left = Tiling<T>::kNarrow ? 64 : 32;
  for (int t = 0; t < 4; ++t) c.set(t, rows, 64);
  for (int t = 4; t < 6; ++t) c.set(t, rows, left);
  for (int t = 6; t < 8; ++t) c.set(t, left / 4, 64);
  return c;
}

/// Where a tile's activations of one stretch lie.
const std::int8_t* tile_rows(const MatmulArgs& a, std::size_t row, std::size_t rows, std::size_t first,
                             std::size_t count, Gathered& gathered) {
  const std::size_t groups = z(a.weight.k) / 32;
  if (a.operand.row_ids == nullptr) return a.operand.q8 + (row * groups + first) * kPlanes;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t source = z(a.operand.row_ids[row + r]) * groups + first;
    std::memcpy(gathered.q[r], a.operand.q8 + source * kPlanes, count * kPlanes);
  }
  return gathered.q[0];
}

template <DType T>
void multiply_panel(const MatmulArgs& a, std::size_t panel, std::size_t row, std::size_t rows, const Chunk& chunk,
                    Stretch<T>& stretch, Gathered& gathered) {
  alignas(64) float totals[kChunkRows][16];
  std::memset(totals, 0, rows * sizeof(totals[0]));
  const std::size_t groups = z(a.weight.k) / 32;
  const std::size_t whole = rows / kTileRows * kTileRows;
  const std::size_t q_stride = a.operand.row_ids == nullptr ? groups * kPlanes : sizeof(gathered.q[0]);
  const TileConfig full = tiles_of<T>(kTileRows), last = tiles_of<T>(rows - whole);
  for (std::size_t g = 0; g < groups; g += kStretch) {
    const std::size_t count = std::min(kStretch, groups - g);
    expand<T>(a.weight.data + panel * a.weight.panel_bytes, g, count, stretch);
    if (whole != 0) _tile_loadconfig(&full);
    for (std::size_t r = 0; r < whole; r += kTileRows) {
      const std::int8_t* q = tile_rows(a, row + r, kTileRows, g, count, gathered);
      add_stretch<T>(q, q_stride, chunk, r * groups + g * kTileRows, stretch, count, totals + r);
    }
    if (whole == rows) continue;
    _tile_loadconfig(&last);
    const std::int8_t* q = tile_rows(a, row + whole, rows - whole, g, count, gathered);
    add_stretch_short<T>(q, q_stride, chunk, whole * groups + g * kTileRows, stretch, count, rows - whole,
                         totals + whole);
  }
  for (std::size_t r = 0; r < rows; ++r) avx512::store_columns(a, panel, row + r, _mm512_load_ps(totals[r]));
}

template <DType T>
void multiply(const MatmulArgs& a) {
  const std::size_t tiles = kChunkGroups / (z(a.weight.k) / 32 * kTileRows);
  if (tiles == 0) return avx512_table().matmul(a);  // rows too long for the scales' room
  const std::size_t step = std::min(kChunkRows, tiles * kTileRows);
  Stretch<T> stretch;
  Gathered gathered;
  Chunk chunk;
  for (std::size_t r = 0; r < z(a.m); r += step) {
    const std::size_t rows = std::min(step, z(a.m) - r);
    turn_scales<T>(a, r, rows, chunk);
    for (std::size_t p = z(a.panel_begin); p < z(a.panel_end); ++p) {
      multiply_panel<T>(a, p, r, rows, chunk, stretch, gathered);
    }
  }
  _tile_release();
}

}  // namespace

#pragma GCC pop_options

void matmul_quants(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::q8 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  switch (a.weight.source) {
    case DType::q4_0:
      return multiply<DType::q4_0>(a);
    case DType::q4_1:
      return multiply<DType::q4_1>(a);
    case DType::q5_0:
      return multiply<DType::q5_0>(a);
    case DType::q5_1:
      return multiply<DType::q5_1>(a);
    case DType::q8_0:
      return multiply<DType::q8_0>(a);
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
    default:
      return avx512::matmul_kquant(a);
  }
}

}  // namespace hp::kernels::amx
