// KV writes and attention of the AVX-512 tables, in float arithmetic over f32, f16, bf16 or i8 KV.
//
// Up to kMostRows query rows (token, head of the group) go over a split of KV together: scores with tokens across
// lanes, then weights, then the weighted values with dimensions across lanes. Every row sees the same operations in the
// same order whichever rows go with it: tokens that it may not see have weight zero, and adding zeros changes nothing.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/cpu/avx512_kernels.h"
#include "kernels/cpu/avx512_math.h"
#include "kernels/isa_tables.h"
#include "kernels/kv_scales.h"

namespace hp::kernels::avx512 {
namespace {

constexpr std::size_t kBlock = 16;  // tokens of a KV block that this file handles; others are ref's
constexpr std::size_t kMostRows = 6;
constexpr auto kSplit = static_cast<std::size_t>(kKvSplitTokens);
constexpr float kNoWeight = -60.0F;  // so far below the largest, scores add only subnormal numbers: slow on Intel
constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

std::size_t padded(std::int32_t dim) {
  return (z(dim) + 15) / 16 * 16;
}

std::size_t split_count(const AttentionArgs& a) {
  return (z(a.position) + z(a.tokens) + kSplit - 1) / kSplit;
}

/// One query row: token t, head g of the group, and its softmax-weighted sum before the division.
struct Row {
  const float* q = nullptr;
  float* out = nullptr;
  float* partial = nullptr;  ///< of split 0; null: merge into `values`
  float* values = nullptr;   ///< [v_dim] merged over the splits so far
  float max = kMinusInf, sum = 0.0F;
  std::size_t visible = 0;
};

}  // namespace

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")

namespace {

struct LoadF32 {
  static constexpr std::size_t kBytes = 4;
  static constexpr bool kScaled = false;
  static __m512 all(const std::byte* p) { return _mm512_loadu_ps(p); }
  static __m512 some(const std::byte* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
  static void store(std::byte* p, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(p, m, v); }
};
struct LoadF16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kScaled = false;
  static __m512 all(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 some(const std::byte* p, __mmask16 m) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }
  static void store(std::byte* p, __mmask16 m, __m512 v) {
    _mm256_mask_storeu_epi16(p, m, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
struct LoadBf16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kScaled = false;
  static __m512 all(const std::byte* p) { return bf16_to_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static __m512 some(const std::byte* p, __mmask16 m) { return bf16_to_ps(_mm256_maskz_loadu_epi16(m, p)); }
  static void store(std::byte* p, __mmask16 m, __m512 v) { _mm256_mask_storeu_epi16(p, m, ps_to_bf16(v)); }
};

/// Values of i8 without their scales, which are the same for kKvScaleDims dimensions of a token.
struct LoadI8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kScaled = true;
  static __m512 all(const std::byte* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static __m512 some(const std::byte* p, __mmask16 m) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, p)));
  }
};

/// e4m3: sign, 4 bits of exponent and 3 of mantissa are an f16 of 2^-8 of the value, subnormals too, but for the NaN.
struct LoadF8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kScaled = false;
  static __m512 wide(__m128i bytes) {
    const __m256i magnitude = _mm256_set1_epi16(0x3F80);
    __m256i half = _mm256_slli_epi16(_mm256_cvtepi8_epi16(bytes), 7);
    half = _mm256_and_si256(half, _mm256_set1_epi16(static_cast<std::int16_t>(0xBFFF)));
    const __mmask16 nan = _mm256_cmpeq_epi16_mask(_mm256_and_si256(half, magnitude), magnitude);
    half = _mm256_mask_mov_epi16(half, nan, _mm256_set1_epi16(0x7E00));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256.0F));
  }
  static __m512 all(const std::byte* p) { return wide(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static __m512 some(const std::byte* p, __mmask16 m) { return wide(_mm_maskz_loadu_epi8(m, p)); }
};

/// Byte addresses of one kv head's K [head_dim, kBlock] and V [kBlock, v_dim] in the block of a position.
template <typename Load>
struct KvHead {
  const std::byte* base;
  std::size_t block_stride, k_offset, v_offset;
  std::size_t k_scales, v_scales;  ///< of dimension 0 (LoadI8)
  const std::int32_t* blocks;

  explicit KvHead(const KvView& kv, const std::int32_t* table, std::size_t head)
      : base(kv.base),
        block_stride(kv.block_stride),
        k_offset(head * z(kv.head_dim) * kBlock * Load::kBytes),
        v_offset(kv.v_in_k ? k_offset : (z(kv.kv_heads) * z(kv.head_dim) + head * z(kv.v_dim)) * kBlock * Load::kBytes),
        k_scales(KvScales(kv).k_at(head, 0)),
        v_scales(KvScales(kv).v_at(head, 0)),
        blocks(table) {}
  [[nodiscard]] const std::byte* block(std::size_t position) const {
    return base + z(blocks[position / kBlock]) * block_stride;
  }
  /// Scales of a block's tokens for K's and V's dimension d, in the lanes `there`.
  [[nodiscard]] __m512 k_scale(const std::byte* block, std::size_t d) const {
    return LoadF16::all(block + k_scales + d / kKvScaleDims * kBlock * 2);
  }
  [[nodiscard]] __m512 v_scale(const std::byte* block, std::size_t d, __mmask16 there) const {
    return LoadF16::some(block + v_scales + d / kKvScaleDims * kBlock * 2, there);
  }
  [[nodiscard]] float v_scale_of(std::size_t position, std::size_t d) const {
    std::uint16_t bits = 0;
    std::memcpy(&bits, this->block(position) + v_scales + (d / kKvScaleDims * kBlock + position % kBlock) * 2, 2);
    return _cvtsh_ss(bits);
  }
};

/// acc[r] += q[r][d] · K[d] over the dimensions [begin, end) of a block.
template <typename Load, std::size_t R>
[[gnu::always_inline]] inline void dots(const std::byte* k, const float* const (&q)[R], std::size_t begin,
                                        std::size_t end, __m512 (&acc)[R]) {
  for (std::size_t d = begin; d < end; ++d) {
    const __m512 column = Load::all(k + d * kBlock * Load::kBytes);
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(q[r][d]), column, acc[r]);
  }
}

/// Scores of R rows against the tokens [begin, end) of a split, whole blocks of lanes; -infinity where a row may not
/// look. scores: [R, kSplit]. From dimension `narrow` on, K is bf16.
template <typename Load, std::size_t R>
void score(const KvHead<Load>& kv, const Row* rows, std::size_t head_dim, std::size_t narrow, float scale,
           std::size_t begin, std::size_t end, float* scores) {
  const float* q[R];
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) q[r] = rows[r].q;
  for (std::size_t p = begin; p < end; p += kBlock) {
    const std::byte* k = kv.block(p) + kv.k_offset;
    __m512 acc[R];
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) acc[r] = _mm512_setzero_ps();
    if constexpr (Load::kScaled) {
      for (std::size_t first = 0; first < head_dim; first += kKvScaleDims) {
        __m512 part[R];
#pragma GCC unroll 6
        for (std::size_t r = 0; r < R; ++r) part[r] = _mm512_setzero_ps();
        dots<Load, R>(k, q, first, std::min(first + kKvScaleDims, head_dim), part);
        const __m512 scales = kv.k_scale(kv.block(p), first);
#pragma GCC unroll 6
        for (std::size_t r = 0; r < R; ++r) acc[r] = _mm512_fmadd_ps(part[r], scales, acc[r]);
      }
    } else {
      dots<Load, R>(k, q, 0, narrow, acc);
      if (narrow < head_dim)  // as if all rows before were as wide
        dots<LoadBf16, R>(k + narrow * kBlock * Load::kBytes - narrow * kBlock * 2, q, narrow, head_dim, acc);
    }
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) {
      const __mmask16 seen = rows[r].visible > p ? lanes(rows[r].visible - p) : static_cast<__mmask16>(0);
      _mm512_storeu_ps(scores + r * kSplit + (p - begin),
                       _mm512_mask_mul_ps(_mm512_set1_ps(kMinusInf), seen, acc[r], _mm512_set1_ps(scale)));
    }
  }
}

/// Turns a row's scores into weights e^(score - max); gives the maximum and the sum of weights.
void weigh(float* scores, std::size_t count, float& max, float& sum) {
  __m512 top = _mm512_set1_ps(kMinusInf);
  for (std::size_t i = 0; i < count; i += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(scores + i));
  max = _mm512_reduce_max_ps(top);
  __m512 total = _mm512_setzero_ps();
  const __m512 base = _mm512_set1_ps(max == kMinusInf ? 0.0F : max);
  for (std::size_t i = 0; i < count; i += 16) {
    const __m512 below = _mm512_sub_ps(_mm512_loadu_ps(scores + i), base);
    const __mmask16 counts = _mm512_cmp_ps_mask(below, _mm512_set1_ps(kNoWeight), _CMP_NLT_UQ);
    const __m512 w = _mm512_maskz_mov_ps(counts, exp_ps(below));
    _mm512_storeu_ps(scores + i, w);
    total = _mm512_add_ps(total, w);
  }
  sum = _mm512_reduce_add_ps(total);
}

/// values[r][d..] = Σ weight · V over the split, for 16 · C dimensions from d; `last` masks the last 16.
template <typename Load, std::size_t R, std::size_t C>
void weigh_values(const KvHead<Load>& kv, std::size_t v_dim, std::size_t d, __mmask16 last, const float* weights,
                  std::size_t begin, std::size_t end, float* const* values) {
  __m512 acc[R][C];
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (std::size_t c = 0; c < C; ++c) acc[r][c] = _mm512_setzero_ps();
  }
  for (std::size_t p = begin; p < end; ++p) {
    const std::byte* row = kv.block(p) + kv.v_offset + (p % kBlock * v_dim + d) * Load::kBytes;
    __m512 v[C];
#pragma GCC unroll 4
    for (std::size_t c = 0; c + 1 < C; ++c) v[c] = Load::all(row + c * 16 * Load::kBytes);
    v[C - 1] = Load::some(row + (C - 1) * 16 * Load::kBytes, last);
    const float scale = Load::kScaled ? kv.v_scale_of(p, d) : 1.0F;
#pragma GCC unroll 6
    for (std::size_t r = 0; r < R; ++r) {
      const float weight = weights[r * kSplit + (p - begin)];
      const __m512 w = _mm512_set1_ps(Load::kScaled ? weight * scale : weight);
#pragma GCC unroll 4
      for (std::size_t c = 0; c < C; ++c) acc[r][c] = _mm512_fmadd_ps(w, v[c], acc[r][c]);
    }
  }
#pragma GCC unroll 6
  for (std::size_t r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (std::size_t c = 0; c < C; ++c) {
      _mm512_mask_storeu_ps(values[r] + d + c * 16, c + 1 == C ? last : static_cast<__mmask16>(0xFFFFU), acc[r][c]);
    }
  }
}

/// values[r][d..] = Σ weight · V over the split for D dimensions from d, where V is rows of K (latent attention):
/// tokens lie across lanes, and a sum is taken per lane and over the lanes at the end.
template <typename Load, std::size_t R, std::size_t D>
void weigh_latent(const KvHead<Load>& kv, std::size_t d, const float* weights, std::size_t begin, std::size_t end,
                  float* const* values) {
  __m512 acc[R][D];
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t i = 0; i < D; ++i) acc[r][i] = _mm512_setzero_ps();
  }
  for (std::size_t p = begin; p < end; p += kBlock) {
    const std::byte* rows = kv.block(p) + kv.v_offset + d * kBlock * Load::kBytes;
    const __mmask16 written = lanes(end - p);  // what lies behind in the block may be anything
    __m512 w[R];
    for (std::size_t r = 0; r < R; ++r) w[r] = _mm512_loadu_ps(weights + r * kSplit + (p - begin));
    if constexpr (Load::kScaled) {
      const __m512 scales = kv.v_scale(kv.block(p), d, written);
      for (std::size_t r = 0; r < R; ++r) w[r] = _mm512_mul_ps(w[r], scales);
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < D; ++i) {
      const __m512 v = Load::some(rows + i * kBlock * Load::kBytes, written);
#pragma GCC unroll 3
      for (std::size_t r = 0; r < R; ++r) acc[r][i] = _mm512_fmadd_ps(w[r], v, acc[r][i]);
    }
  }
  for (std::size_t r = 0; r < R; ++r) {
    for (std::size_t i = 0; i < D; ++i) values[r][d + i] = _mm512_reduce_add_ps(acc[r][i]);
  }
}

template <typename Load, std::size_t R>
void weigh_latents(const KvHead<Load>& kv, std::size_t v_dim, const float* weights, std::size_t begin, std::size_t end,
                   float* const* values) {
  constexpr std::size_t kAtOnce = 3;  // rows whose sums fit the registers beside 8 dimensions
  if constexpr (R > kAtOnce) {
    weigh_latents<Load, kAtOnce>(kv, v_dim, weights, begin, end, values);
    weigh_latents<Load, R - kAtOnce>(kv, v_dim, weights + kAtOnce * kSplit, begin, end, values + kAtOnce);
  } else {
    std::size_t d = 0;
    for (; d + 8 <= v_dim; d += 8) weigh_latent<Load, R, 8>(kv, d, weights, begin, end, values);
    for (; d < v_dim; ++d) weigh_latent<Load, R, 1>(kv, d, weights, begin, end, values);
  }
}

/// into = into merged with (max, sum, values), for the softmax of both together.
void merge(Row& into, float max, float sum, const float* values, std::size_t v_dim) {
  if (max == kMinusInf) return;
  const float top = std::max(into.max, max);
  const __m512 a = exp_ps(_mm512_set1_ps(into.max - top));  // 0 while `into` is empty
  const __m512 b = exp_ps(_mm512_set1_ps(max - top));
  into.sum = into.sum * _mm512_cvtss_f32(a) + sum * _mm512_cvtss_f32(b);
  for (std::size_t d = 0; d < v_dim; d += 16) {
    const __mmask16 m = lanes(v_dim - d);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, into.values + d), a);
    _mm512_mask_storeu_ps(into.values + d, m, _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, values + d), b, scaled));
  }
  into.max = top;
}

void finish(const Row& row, std::size_t v_dim) {
  const __m512 sum = _mm512_set1_ps(row.sum);
  for (std::size_t d = 0; d < v_dim; d += 16) {
    const __mmask16 m = lanes(v_dim - d);
    _mm512_mask_storeu_ps(row.out + d, m, _mm512_div_ps(_mm512_maskz_loadu_ps(m, row.values + d), sum));
  }
}

/// Scratch: scores [R, kSplit], then per row the merged values and this split's values.
template <typename Load, std::size_t R>
void attend_rows(const AttentionArgs& a, Row* rows) {
  const KvHead<Load> kv(a.kv, a.blocks, z(a.kv_head));
  const std::size_t v_dim = z(a.kv.v_dim);
  const std::size_t width = padded(a.kv.v_dim);
  float* scores = a.scratch;
  std::size_t visible = 0;
  for (std::size_t r = 0; r < R; ++r) {
    rows[r].values = scores + kMostRows * kSplit + r * 2 * width;
    std::fill_n(rows[r].values, v_dim, 0.0F);
    visible = std::max(visible, rows[r].visible);
  }
  for (std::size_t s = z(a.split_begin); s < std::min(z(a.split_end), split_count(a)); ++s) {
    const std::size_t begin = s * kSplit;
    const std::size_t end = std::max(begin, std::min(begin + kSplit, visible));
    score<Load, R>(kv, rows, z(a.kv.head_dim), z(a.kv.head_dim - a.kv.k_bf16), a.scale, begin, end, scores);
    float* values[R];
    float max[R], sum[R];
    for (std::size_t r = 0; r < R; ++r) {
      float* partial = rows[r].partial == nullptr ? nullptr : rows[r].partial + s * (2 + v_dim);
      values[r] = partial == nullptr ? rows[r].values + width : partial + 2;
      weigh(scores + r * kSplit, (end - begin + 15) / 16 * 16, max[r], sum[r]);
      if (partial != nullptr) {
        partial[0] = max[r];
        partial[1] = sum[r];
      }
    }
    if (a.kv.v_in_k) {
      weigh_latents<Load, R>(kv, v_dim, scores, begin, end, values);
    } else {
      std::size_t d = 0;
      for (; d + 64 <= v_dim; d += 64) weigh_values<Load, R, 4>(kv, v_dim, d, 0xFFFFU, scores, begin, end, values);
      for (; d < v_dim; d += 16) weigh_values<Load, R, 1>(kv, v_dim, d, lanes(v_dim - d), scores, begin, end, values);
    }
    for (std::size_t r = 0; r < R; ++r) {
      if (rows[r].partial == nullptr) merge(rows[r], max[r], sum[r], values[r], v_dim);
    }
  }
  for (std::size_t r = 0; r < R; ++r) {
    if (rows[r].partial == nullptr) finish(rows[r], v_dim);
  }
}

Row row_of(const AttentionArgs& a, std::size_t index) {
  const std::size_t group = z(a.heads / a.kv.kv_heads);
  const std::size_t t = index / group;
  const std::size_t head = z(a.kv_head) * group + index % group;
  return {.q = a.q + t * a.q_stride + head * z(a.kv.head_dim),
          .out = a.out == nullptr ? nullptr : a.out + t * a.out_stride + head * z(a.kv.v_dim),
          .partial = a.partial == nullptr ? nullptr : a.partial + index * split_count(a) * (2 + z(a.kv.v_dim)),
          .visible = z(a.position) + t + 1};
}

template <typename Load>
void attend(const AttentionArgs& a) {
  using Function = void (*)(const AttentionArgs&, Row*);
  static constexpr std::array<Function, kMostRows> kByRows = {attend_rows<Load, 1>, attend_rows<Load, 2>,
                                                              attend_rows<Load, 3>, attend_rows<Load, 4>,
                                                              attend_rows<Load, 5>, attend_rows<Load, 6>};
  const std::size_t total = z(a.tokens) * z(a.heads / a.kv.kv_heads);
  std::array<Row, kMostRows> rows;
  for (std::size_t first = 0; first < total; first += kMostRows) {
    const std::size_t count = std::min(kMostRows, total - first);
    for (std::size_t r = 0; r < count; ++r) rows[r] = row_of(a, first + r);
    kByRows[count - 1](a, rows.data());
  }
}

template <typename Load>
void write(const KvWriteArgs& a) {
  const std::size_t head_dim = z(a.kv.head_dim), v_dim = z(a.kv.v_dim), heads = z(a.kv.kv_heads);
  alignas(64) std::byte column[16 * Load::kBytes];
  for (std::size_t t = 0; t < z(a.tokens); ++t) {
    const std::size_t slot = (z(a.position) + t) % kBlock;
    std::byte* block = a.kv.base + z(a.blocks[(z(a.position) + t) / kBlock]) * a.kv.block_stride;
    for (std::size_t h = z(a.head_begin); h < std::min(z(a.head_end), heads); ++h) {
      const float* k = a.k + t * a.k_stride + h * head_dim;
      std::byte* k_out = block + (h * head_dim * kBlock + slot) * Load::kBytes;
      for (std::size_t d = 0; d < head_dim; d += 16) {
        const __mmask16 m = lanes(head_dim - d);
        Load::store(column, m, _mm512_maskz_loadu_ps(m, k + d));
        for (std::size_t i = 0; i < std::min<std::size_t>(16, head_dim - d); ++i) {
          std::memcpy(k_out + (d + i) * kBlock * Load::kBytes, column + i * Load::kBytes, Load::kBytes);
        }
      }
      if (a.kv.v_in_k) continue;
      const float* v = a.v + t * a.v_stride + h * v_dim;
      std::byte* v_out = block + ((heads * head_dim + h * v_dim) * kBlock + slot * v_dim) * Load::kBytes;
      for (std::size_t d = 0; d < v_dim; d += 16) {
        const __mmask16 m = lanes(v_dim - d);
        Load::store(v_out + d * Load::kBytes, m, _mm512_maskz_loadu_ps(m, v + d));
      }
    }
  }
}

bool handled(const KvView& kv) {
  return kv.block_tokens == static_cast<std::int32_t>(kBlock) &&
         (kv.dtype == DType::f32 || kv.dtype == DType::f16 || kv.dtype == DType::bf16 || kv.dtype == DType::i8 ||
          kv.dtype == DType::f8_e4m3);
}

}  // namespace

void kv_write(const KvWriteArgs& a) {
  if (!handled(a.kv) || a.kv.dtype == DType::i8 || a.kv.dtype == DType::f8_e4m3) return ref_table().kv_write(a);
  if (a.kv.dtype == DType::f32) return write<LoadF32>(a);
  if (a.kv.dtype == DType::f16) return write<LoadF16>(a);
  write<LoadBf16>(a);
}

std::size_t attention_scratch_floats(const AttentionArgs& a) {
  return std::max(kMostRows * (kSplit + 2 * padded(a.kv.v_dim)), ref_table().attention_scratch_floats(a));
}

void attention(const AttentionArgs& a) {
  if (!handled(a.kv)) return ref_table().attention(a);
  if (a.kv.dtype == DType::f32) return attend<LoadF32>(a);
  if (a.kv.dtype == DType::f16) return attend<LoadF16>(a);
  if (a.kv.dtype == DType::i8) return attend<LoadI8>(a);
  if (a.kv.dtype == DType::f8_e4m3) return attend<LoadF8>(a);
  attend<LoadBf16>(a);
}

void attention_merge(const AttentionArgs& a) {
  if (!handled(a.kv)) return ref_table().attention_merge(a);
  HP_CHECK(a.partial != nullptr && a.scratch != nullptr && a.out != nullptr);
  const std::size_t v_dim = z(a.kv.v_dim);
  const std::size_t total = z(a.tokens) * z(a.heads / a.kv.kv_heads);
  for (std::size_t i = 0; i < total; ++i) {
    Row row = row_of(a, i);
    row.values = a.scratch;
    std::fill_n(row.values, v_dim, 0.0F);
    for (std::size_t s = 0; s < split_count(a); ++s) {
      const float* at = row.partial + s * (2 + v_dim);
      merge(row, at[0], at[1], at + 2, v_dim);
    }
    finish(row, v_dim);
  }
}

#pragma GCC pop_options

}  // namespace hp::kernels::avx512
