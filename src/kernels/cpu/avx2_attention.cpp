// KV writes and attention of the AVX2 table, in float arithmetic over f32, f16, bf16 or i8 KV; latent KV is ref's.
//
// Up to kMostRows query rows (token, head of the group) go over a split of KV together: scores with tokens across
// lanes, then weights, then the weighted values with dimensions across lanes. Every row sees the same operations in the
// same order whichever rows go with it: tokens that it may not see have weight zero, and adding zeros changes nothing.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/cpu/avx2_kernels.h"
#include "kernels/cpu/avx2_math.h"
#include "kernels/isa_tables.h"
#include "kernels/kv_scales.h"

namespace hp::kernels::avx2 {
namespace {

constexpr std::size_t kBlock = 16;  // tokens of a KV block that this file handles; others are ref's
constexpr std::size_t kMostRows = 4;
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
#pragma GCC target("avx2,fma,f16c")

namespace {

struct LoadF32 {
  static constexpr std::size_t kBytes = 4;
  static constexpr bool kScaled = false;
  static F16 all(const std::byte* p) { return load(reinterpret_cast<const float*>(p)); }
  static F16 some(const std::byte* p, std::size_t, Mask m) { return load(reinterpret_cast<const float*>(p), m); }
  static void put(std::byte* p, std::size_t count, F16 v) {
    alignas(32) float out[16];
    store(out, v);
    std::memcpy(p, out, std::min<std::size_t>(count, 16) * kBytes);
  }
};
/// 16 words, zeros from `count` on.
inline void load_words(const std::byte* p, std::size_t count, std::uint16_t (&out)[16]) {
  std::memset(out, 0, sizeof(out));
  std::memcpy(out, p, std::min<std::size_t>(count, 16) * sizeof(out[0]));
}
struct LoadF16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kScaled = false;
  static F16 all(const std::byte* p) {
    const auto* v = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1))};
  }
  static F16 some(const std::byte* p, std::size_t count, Mask) {
    alignas(32) std::uint16_t words[16];
    load_words(p, count, words);
    return all(reinterpret_cast<const std::byte*>(words));
  }
  static void put(std::byte* p, std::size_t count, F16 v) {
    alignas(32) __m128i words[2] = {_mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                                    _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
    std::memcpy(p, words, std::min<std::size_t>(count, 16) * kBytes);
  }
};
struct LoadBf16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kScaled = false;
  static F16 all(const std::byte* p) {
    const auto* v = reinterpret_cast<const __m128i*>(p);
    return {bf16_to_ps(_mm_loadu_si128(v)), bf16_to_ps(_mm_loadu_si128(v + 1))};
  }
  static F16 some(const std::byte* p, std::size_t count, Mask) {
    alignas(32) std::uint16_t words[16];
    load_words(p, count, words);
    return all(reinterpret_cast<const std::byte*>(words));
  }
  static void put(std::byte* p, std::size_t count, F16 v) {
    const __m256i words = pack_words(bf16_words(v.a), bf16_words(v.b));
    std::memcpy(p, &words, std::min<std::size_t>(count, 16) * kBytes);
  }
};

/// Values of i8 without their scales, which are the same for kKvScaleDims dimensions of a token.
struct LoadI8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kScaled = true;
  static F16 all(const std::byte* p) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(v, 8)))};
  }
  static F16 some(const std::byte* p, std::size_t count, Mask) {
    alignas(16) std::byte bytes[16] = {};
    std::memcpy(bytes, p, std::min<std::size_t>(count, 16));
    return all(bytes);
  }
};

/// e4m3: sign, 4 bits of exponent and 3 of mantissa are an f16 of 2^-8 of the value, subnormals too, but for the NaN.
struct LoadF8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kScaled = false;
  static F16 all(const std::byte* p) {
    const __m256i magnitude = _mm256_set1_epi16(0x3F80);
    __m256i half = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 7);
    half = _mm256_and_si256(half, _mm256_set1_epi16(static_cast<std::int16_t>(0xBFFF)));
    const __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, magnitude), magnitude);
    half = _mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x7E00)));
    return mul({_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1))},
               kernels::avx2::all(256.0F));
  }
  static F16 some(const std::byte* p, std::size_t count, Mask) {
    alignas(16) std::byte bytes[16] = {};
    std::memcpy(bytes, p, std::min<std::size_t>(count, 16));
    return all(bytes);
  }
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
        v_offset((z(kv.kv_heads) * z(kv.head_dim) + head * z(kv.v_dim)) * kBlock * Load::kBytes),
        k_scales(KvScales(kv).k_at(head, 0)),
        v_scales(KvScales(kv).v_at(head, 0)),
        blocks(table) {}
  [[nodiscard]] const std::byte* block(std::size_t position) const {
    return base + z(blocks[position / kBlock]) * block_stride;
  }
  /// Scales of a block's tokens for K's dimension d.
  [[nodiscard]] F16 k_scale(const std::byte* block, std::size_t d) const {
    return LoadF16::all(block + k_scales + d / kKvScaleDims * kBlock * 2);
  }
  [[nodiscard]] float v_scale_of(std::size_t position, std::size_t d) const {
    std::uint16_t bits = 0;
    std::memcpy(&bits, this->block(position) + v_scales + (d / kKvScaleDims * kBlock + position % kBlock) * 2, 2);
    return _cvtsh_ss(bits);
  }
};

/// acc[r] += q[r][d] · K[d] over the dimensions [begin, end) of a block.
template <typename Load, std::size_t R>
[[gnu::always_inline]] inline void dots(const std::byte* k, const Row* rows, std::size_t begin, std::size_t end,
                                        F16 (&acc)[R]) {
  for (std::size_t d = begin; d < end; ++d) {
    const F16 column = Load::all(k + d * kBlock * Load::kBytes);
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r) acc[r] = fma(all(rows[r].q[d]), column, acc[r]);
  }
}

/// Scores of R rows against the tokens [begin, end) of a split, whole blocks of lanes; -infinity where a row may not
/// look. scores: [R, kSplit].
template <typename Load, std::size_t R>
void score(const KvHead<Load>& kv, const Row* rows, std::size_t head_dim, float scale, std::size_t begin,
           std::size_t end, float* scores) {
  for (std::size_t p = begin; p < end; p += kBlock) {
    const std::byte* k = kv.block(p) + kv.k_offset;
    F16 acc[R];
    for (std::size_t r = 0; r < R; ++r) acc[r] = zero();
    if constexpr (Load::kScaled) {
      for (std::size_t first = 0; first < head_dim; first += kKvScaleDims) {
        F16 part[R];
        for (std::size_t r = 0; r < R; ++r) part[r] = zero();
        dots<Load, R>(k, rows, first, std::min(first + kKvScaleDims, head_dim), part);
        const F16 scales = kv.k_scale(kv.block(p), first);
        for (std::size_t r = 0; r < R; ++r) acc[r] = fma(part[r], scales, acc[r]);
      }
    } else {
      dots<Load, R>(k, rows, 0, head_dim, acc);
    }
    for (std::size_t r = 0; r < R; ++r) {
      const Mask seen = lanes(rows[r].visible > p ? rows[r].visible - p : 0);
      store(scores + r * kSplit + (p - begin), blend(all(kMinusInf), mul(acc[r], all(scale)), seen));
    }
  }
}

/// e^v, and 0 below kNoWeight.
F16 exp_or_none(F16 v) {
  const F16 w = exp(v);
  const __m256 least = _mm256_set1_ps(kNoWeight);
  return {_mm256_and_ps(w.a, _mm256_cmp_ps(v.a, least, _CMP_NLT_UQ)),
          _mm256_and_ps(w.b, _mm256_cmp_ps(v.b, least, _CMP_NLT_UQ))};
}

/// Turns a row's scores into weights e^(score - max); gives the maximum and the sum of weights.
void weigh(float* scores, std::size_t count, float& max_score, float& weight_sum) {
  F16 top = all(kMinusInf);
  for (std::size_t i = 0; i < count; i += 16) top = max(top, load(scores + i));
  max_score = largest(top);
  F16 total = zero();
  const F16 base = all(max_score == kMinusInf ? 0.0F : -max_score);
  for (std::size_t i = 0; i < count; i += 16) {
    const F16 w = exp_or_none(add(load(scores + i), base));
    store(scores + i, w);
    total = add(total, w);
  }
  weight_sum = sum(total);
}

/// values[r][d..] = Σ weight · V over the split, for 16 dimensions from d, `width` of them there.
template <typename Load, std::size_t R>
void weigh_values(const KvHead<Load>& kv, std::size_t v_dim, std::size_t d, const float* weights, std::size_t begin,
                  std::size_t end, float* const* values) {
  F16 acc[R];
  for (std::size_t r = 0; r < R; ++r) acc[r] = zero();
  const std::size_t width = v_dim - d;
  const Mask there = lanes(width);
  for (std::size_t p = begin; p < end; ++p) {
    const std::byte* row = kv.block(p) + kv.v_offset + (p % kBlock * v_dim + d) * Load::kBytes;
    const F16 v = width >= 16 ? Load::all(row) : Load::some(row, width, there);
    const float scale = Load::kScaled ? kv.v_scale_of(p, d) : 1.0F;
#pragma GCC unroll 4
    for (std::size_t r = 0; r < R; ++r) {
      const float weight = weights[r * kSplit + (p - begin)];
      acc[r] = fma(all(Load::kScaled ? weight * scale : weight), v, acc[r]);
    }
  }
  for (std::size_t r = 0; r < R; ++r) store(values[r] + d, there, acc[r]);
}

/// into = into merged with (max, sum, values), for the softmax of both together.
void merge(Row& into, float top_score, float weight_sum, const float* values, std::size_t v_dim) {
  if (top_score == kMinusInf) return;
  const float top = std::max(into.max, top_score);
  const F16 a = exp(all(into.max - top));  // 0 while `into` is empty
  const F16 b = exp(all(top_score - top));
  into.sum = into.sum * _mm256_cvtss_f32(a.a) + weight_sum * _mm256_cvtss_f32(b.a);
  for (std::size_t d = 0; d < v_dim; d += 16) {
    const Mask m = lanes(v_dim - d);
    store(into.values + d, m, fma(load(values + d, m), b, mul(load(into.values + d, m), a)));
  }
  into.max = top;
}

void finish(const Row& row, std::size_t v_dim) {
  for (std::size_t d = 0; d < v_dim; d += 16) {
    const Mask m = lanes(v_dim - d);
    store(row.out + d, m, div(load(row.values + d, m), all(row.sum)));
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
    score<Load, R>(kv, rows, z(a.kv.head_dim), a.scale, begin, end, scores);
    float* values[R];
    float top[R], weight_sum[R];
    for (std::size_t r = 0; r < R; ++r) {
      float* partial = rows[r].partial == nullptr ? nullptr : rows[r].partial + s * (2 + v_dim);
      values[r] = partial == nullptr ? rows[r].values + width : partial + 2;
      weigh(scores + r * kSplit, (end - begin + 15) / 16 * 16, top[r], weight_sum[r]);
      if (partial != nullptr) {
        partial[0] = top[r];
        partial[1] = weight_sum[r];
      }
    }
    for (std::size_t d = 0; d < v_dim; d += 16) weigh_values<Load, R>(kv, v_dim, d, scores, begin, end, values);
    for (std::size_t r = 0; r < R; ++r) {
      if (rows[r].partial == nullptr) merge(rows[r], top[r], weight_sum[r], values[r], v_dim);
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
                                                              attend_rows<Load, 3>, attend_rows<Load, 4>};
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
  alignas(32) std::byte column[16 * Load::kBytes];
  for (std::size_t t = 0; t < z(a.tokens); ++t) {
    const std::size_t slot = (z(a.position) + t) % kBlock;
    std::byte* block = a.kv.base + z(a.blocks[(z(a.position) + t) / kBlock]) * a.kv.block_stride;
    for (std::size_t h = z(a.head_begin); h < std::min(z(a.head_end), heads); ++h) {
      const float* k = a.k + t * a.k_stride + h * head_dim;
      std::byte* k_out = block + (h * head_dim * kBlock + slot) * Load::kBytes;
      for (std::size_t d = 0; d < head_dim; d += 16) {
        Load::put(column, 16, load(k + d, lanes(head_dim - d)));
        for (std::size_t i = 0; i < std::min<std::size_t>(16, head_dim - d); ++i) {
          std::memcpy(k_out + (d + i) * kBlock * Load::kBytes, column + i * Load::kBytes, Load::kBytes);
        }
      }
      const float* v = a.v + t * a.v_stride + h * v_dim;
      std::byte* v_out = block + ((heads * head_dim + h * v_dim) * kBlock + slot * v_dim) * Load::kBytes;
      for (std::size_t d = 0; d < v_dim; d += 16) {
        Load::put(v_out + d * Load::kBytes, v_dim - d, load(v + d, lanes(v_dim - d)));
      }
    }
  }
}

bool handled(const KvView& kv) {
  return !kv.v_in_k && kv.block_tokens == static_cast<std::int32_t>(kBlock) &&
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

}  // namespace hp::kernels::avx2
