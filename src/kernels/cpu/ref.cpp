// The reference table: plain scalar C++, float operands, sums over K one element after the other. Every other ISA is
// tested against it; it is not meant to be fast.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "kernels/isa_tables.h"
#include "kernels/kv_scales.h"
#include "kernels/packing.h"

namespace hp::kernels {
namespace {

constexpr auto kCols = static_cast<std::size_t>(kPanelColumns);
constexpr auto kGroup = static_cast<std::size_t>(kQuantGroup);
constexpr std::size_t kRowBlock = 16;  // rows that share one unpacked group
constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

std::size_t z(std::int64_t v) {
  return static_cast<std::size_t>(v);
}

// Activations and products. ------------------------------------------------------------------------------------------

OperandKind operand_kind(DType /*weight*/) {
  return OperandKind::f32;
}

void to_bf16(const float* x, std::int32_t rows, std::int32_t k, std::uint16_t* out) {
  for (std::size_t i = 0; i < z(rows) * z(k); ++i) out[i] = f32_to_bf16(x[i]);
}

/// Leaves the largest values of a row's groups in `largest`; gives that up to which 8 bits do.
float narrow_limit(const float* x, std::size_t groups, float narrow, float* largest) {
  float sum = 0.0F;
  for (std::size_t g = 0; g < groups; ++g) {
    largest[g] = 0.0F;
    for (std::size_t i = 0; i < kGroup; ++i) largest[g] = std::max(largest[g], std::fabs(x[g * kGroup + i]));
    sum += largest[g];
  }
  return narrow * (sum / static_cast<float>(groups));
}

void to_q8(const float* x, std::int32_t rows, std::int32_t k, const Q8Rows& out) {
  HP_CHECK(z(k) % kGroup == 0, "K {}", k);
  const std::size_t row_groups = z(k) / kGroup;
  float limit = 0.0F;
  for (std::size_t g = 0; g < z(rows) * row_groups; ++g) {
    if (g % row_groups == 0) limit = narrow_limit(x + g * kGroup, row_groups, out.narrow, out.scale + g);
    const bool is_narrow = out.scale[g] <= limit;
    const int most = is_narrow ? kNarrowLimit : kQuantLimit, unit = is_narrow ? 16 : 1;
    const float step = out.scale[g] / static_cast<float>(most);
    const float inverse = step > 0.0F ? 1.0F / step : 0.0F;
    std::array<int, 2> half{};
    for (std::size_t i = 0; i < kGroup; ++i) {
      const int v = std::clamp(static_cast<int>(std::nearbyint(x[g * kGroup + i] * inverse)), -most, most) * unit;
      const int high = (v + 8) >> 4;
      out.q[g * z(kQuantGroupBytes) + i] = static_cast<std::int8_t>(high);
      out.q[g * z(kQuantGroupBytes) + kGroup + i] = static_cast<std::int8_t>(v - 16 * high);
      half[i / 16] += v;
    }
    out.scale[g] = step / static_cast<float>(unit);
    out.sum[g] = out.scale[g] * static_cast<float>(half[0] + half[1]);
    out.isum[g] = pack_half_sums(half[0], half[1]);
  }
}

using Panel = std::array<float, kCols>;

void store_row(const MatmulArgs& a, std::size_t row, std::size_t panel, const Panel& acc) {
  const std::size_t first = panel * kCols;
  for (std::size_t c = 0; c < kCols && first + c < z(a.weight.n); ++c) {
    float& out = a.out[row * a.out_stride + first + c];
    const float v = acc[c] + (a.bias != nullptr ? a.bias[first + c] : 0.0F);
    out = a.accumulate ? out + v : v;
  }
}

void matmul_block(const MatmulArgs& a, std::int32_t panel, std::size_t row_begin, std::size_t rows) {
  std::array<Panel, kRowBlock> acc{};
  alignas(64) std::array<float, kGroup * kCols> w;
  const std::size_t k = z(a.weight.k);
  for (std::size_t k0 = 0; k0 < k; k0 += kGroup) {
    const std::size_t count = std::min(kGroup, k - k0);
    unpack_group(a.weight, panel, static_cast<std::int32_t>(k0), static_cast<std::int32_t>(count), w.data());
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t i = row_begin + r;
      const float* x = a.operand.f32 + (a.operand.row_ids != nullptr ? z(a.operand.row_ids[i]) : i) * k + k0;
      Panel sum = acc[r];
      for (std::size_t j = 0; j < count; ++j) {
        for (std::size_t c = 0; c < kCols; ++c) sum[c] += x[j] * w[j * kCols + c];
      }
      acc[r] = sum;
    }
  }
  for (std::size_t r = 0; r < rows; ++r) store_row(a, row_begin + r, z(panel), acc[r]);
}

void matmul(const MatmulArgs& a) {
  HP_CHECK(a.operand.kind == OperandKind::f32 && a.operand.k == a.weight.k, "operand K {}, weight K {}", a.operand.k,
           a.weight.k);
  for (std::int32_t p = a.panel_begin; p < a.panel_end; ++p) {
    for (std::size_t r = 0; r < z(a.m); r += kRowBlock) matmul_block(a, p, r, std::min(kRowBlock, z(a.m) - r));
  }
}

void unpack_row(const PackedMatrix& weight, std::int32_t row, float* out) {
  for (std::int32_t k0 = 0; k0 < weight.k; k0 += kQuantGroup) {
    unpack_column(weight, row, k0, std::min(kQuantGroup, weight.k - k0), out + k0, 1);
  }
}

// Row operations. ----------------------------------------------------------------------------------------------------

void rms_norm(const float* x, std::size_t x_stride, const float* weight, float eps, std::int32_t rows, std::int32_t dim,
              float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < z(rows); ++r) {
    const float* in = x + r * x_stride;
    float sum = 0.0F;
    for (std::size_t i = 0; i < z(dim); ++i) sum += in[i] * in[i];
    const float scale = 1.0F / std::sqrt(sum / static_cast<float>(dim) + eps);
    for (std::size_t i = 0; i < z(dim); ++i) out[r * out_stride + i] = in[i] * scale * weight[i];
  }
}

void add(float* x, const float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] += y[i];
}

void swiglu(const float* gate, const float* up, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; ++i) out[i] = gate[i] / (1.0F + std::exp(-gate[i])) * up[i];
}

void rope(float* x, std::int32_t heads, std::int32_t head_dim, std::int32_t rope_offset, std::int32_t rope_dims,
          bool interleaved, const float* cos, const float* sin) {
  const std::size_t half = z(rope_dims) / 2;
  for (std::size_t h = 0; h < z(heads); ++h) {
    float* v = x + h * z(head_dim) + z(rope_offset);
    for (std::size_t i = 0; i < half; ++i) {
      float& a = v[interleaved ? 2 * i : i];
      float& b = v[interleaved ? 2 * i + 1 : i + half];
      const float a0 = a;
      const float b0 = b;
      a = a0 * cos[i] - b0 * sin[i];
      b = a0 * sin[i] + b0 * cos[i];
    }
  }
}

// KV and attention. --------------------------------------------------------------------------------------------------

const std::array<float, 256> kE4m3 = [] {
  std::array<float, 256> out{};
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = f8_e4m3_to_f32(static_cast<std::uint8_t>(i));
  return out;
}();

/// The element as it is kept: of i8 without its scale.
float load(DType dtype, const std::byte* base, std::size_t i) {
  if (dtype == DType::i8) return static_cast<float>(std::to_integer<std::int8_t>(base[i]));
  if (dtype == DType::f8_e4m3) return kE4m3[std::to_integer<std::uint8_t>(base[i])];
  if (dtype == DType::f32) {
    float v = 0;
    std::memcpy(&v, base + i * 4, 4);
    return v;
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, base + i * 2, 2);
  return dtype == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

void store(DType dtype, std::byte* base, std::size_t i, float v) {
  if (dtype == DType::f32) {
    std::memcpy(base + i * 4, &v, 4);
    return;
  }
  if (dtype == DType::f8_e4m3) {
    base[i] = std::byte{f32_to_f8_e4m3(v)};
    return;
  }
  const std::uint16_t bits = dtype == DType::f16 ? f32_to_f16(v) : f32_to_bf16(v);
  std::memcpy(base + i * 2, &bits, 2);
}

/// Index, in elements from the block's start, of K's and V's first element of one kv head.
std::size_t k_at(const KvView& kv, std::size_t head) {
  return head * z(kv.head_dim) * z(kv.block_tokens);
}
std::size_t v_at(const KvView& kv, std::size_t head) {
  return k_at(kv, z(kv.kv_heads)) + head * z(kv.v_dim) * z(kv.block_tokens);
}
/// Where K's dimension d of a slot lies: its type, and its index from `base` bytes after the block's start.
struct KElement {
  DType dtype;
  std::size_t base, index;
};
KElement k_element(const KvView& kv, std::size_t head, std::size_t d, std::size_t slot) {
  const std::size_t bt = z(kv.block_tokens), narrow = z(kv.head_dim - kv.k_bf16);
  if (d < narrow) return {kv.dtype, 0, k_at(kv, head) + d * bt + slot};
  return {DType::bf16, narrow * bt, (d - narrow) * bt + slot};
}
std::byte* block_at(const KvView& kv, const std::int32_t* blocks, std::size_t position) {
  return kv.base + z(blocks[position / z(kv.block_tokens)]) * kv.block_stride;
}

void check_kv(const KvView& kv) {
  HP_CHECK(kv.dtype == DType::f32 || kv.dtype == DType::f16 || kv.dtype == DType::bf16 || kv.dtype == DType::i8 ||
               kv.dtype == DType::f8_e4m3,
           "KV of type {}", traits(kv.dtype).name);
  HP_CHECK(kv.k_bf16 == 0 || (kv.dtype == DType::f8_e4m3 && kv.v_in_k && kv.kv_heads == 1));
}

float scale_at(const std::byte* slot_zero, std::size_t slot) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, slot_zero + slot * 2, 2);
  return f16_to_f32(bits);
}

/// Rounds up to kKvScaleDims values to 8 bits, `step` elements from one to the next, and keeps their scale.
void store_i8(const float* x, std::size_t count, std::byte* first, std::size_t step, std::byte* scale_out) {
  float largest = 0.0F;
  for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[i]));
  constexpr float kLargestF16 = 65504.0F;
  const std::uint16_t bits = f32_to_f16(std::min(largest / 127.0F, kLargestF16));
  std::memcpy(scale_out, &bits, 2);
  const float scale = f16_to_f32(bits);
  for (std::size_t i = 0; i < count; ++i) {
    const float q = scale > 0.0F ? std::clamp(std::nearbyint(x[i] / scale), -127.0F, 127.0F) : 0.0F;
    first[i * step] = std::byte{static_cast<std::uint8_t>(static_cast<std::int8_t>(q))};
  }
}

void write_i8(const KvWriteArgs& a, std::size_t t, std::size_t head, std::byte* block, std::size_t slot) {
  const KvScales scales(a.kv);
  const std::size_t bt = z(a.kv.block_tokens), head_dim = z(a.kv.head_dim), v_dim = z(a.kv.v_dim);
  for (std::size_t d = 0; d < head_dim; d += kKvScaleDims) {
    store_i8(a.k + t * a.k_stride + head * head_dim + d, std::min(kKvScaleDims, head_dim - d),
             block + k_at(a.kv, head) + d * bt + slot, bt, block + scales.k_at(head, d) + slot * 2);
  }
  for (std::size_t d = 0; d < (a.kv.v_in_k ? 0 : v_dim); d += kKvScaleDims) {
    store_i8(a.v + t * a.v_stride + head * v_dim + d, std::min(kKvScaleDims, v_dim - d),
             block + v_at(a.kv, head) + slot * v_dim + d, 1, block + scales.v_at(head, d) + slot * 2);
  }
}

void kv_write(const KvWriteArgs& a) {
  check_kv(a.kv);
  const std::size_t bt = z(a.kv.block_tokens);
  for (std::size_t t = 0; t < z(a.tokens); ++t) {
    const std::size_t position = z(a.position) + t;
    std::byte* block = block_at(a.kv, a.blocks, position);
    for (std::size_t h = z(a.head_begin); h < z(std::min(a.head_end, a.kv.kv_heads)); ++h) {
      if (a.kv.dtype == DType::i8) {
        write_i8(a, t, h, block, position % bt);
        continue;
      }
      for (std::size_t d = 0; d < z(a.kv.head_dim); ++d) {
        const KElement at = k_element(a.kv, h, d, position % bt);
        store(at.dtype, block + at.base, at.index, a.k[t * a.k_stride + h * z(a.kv.head_dim) + d]);
      }
      for (std::size_t d = 0; d < (a.kv.v_in_k ? 0 : z(a.kv.v_dim)); ++d) {
        const std::size_t at = v_at(a.kv, h) + position % bt * z(a.kv.v_dim) + d;
        store(a.kv.dtype, block, at, a.v[t * a.v_stride + h * z(a.kv.v_dim) + d]);
      }
    }
  }
}

/// A softmax-weighted sum before its division: the largest score, the sum of weights, the weighted values.
struct State {
  float max = kMinusInf;
  float sum = 0.0F;
  float* values = nullptr;
};

void merge(State& into, const State& from, std::size_t v_dim) {
  if (from.max == kMinusInf) return;
  const float m = std::max(into.max, from.max);
  const float a = std::exp(into.max - m);  // 0 while `into` is empty
  const float b = std::exp(from.max - m);
  into.sum = into.sum * a + from.sum * b;
  for (std::size_t d = 0; d < v_dim; ++d) into.values[d] = into.values[d] * a + from.values[d] * b;
  into.max = m;
}

/// One query head over the tokens [begin, end) of one split; `scores` holds end - begin floats.
void attend_split(const AttentionArgs& a, const float* q, std::size_t begin, std::size_t end, float* scores,
                  State& out) {
  const std::size_t bt = z(a.kv.block_tokens);
  const std::size_t v_dim = z(a.kv.v_dim);
  const std::size_t k_first = k_at(a.kv, z(a.kv_head));
  const std::size_t v_first = a.kv.v_in_k ? k_first : v_at(a.kv, z(a.kv_head));
  const KvScales scales(a.kv);
  const bool scaled = a.kv.dtype == DType::i8;
  // Elements from one token's or one dimension's value to the next.
  const std::size_t token_step = a.kv.v_in_k ? 1 : v_dim, dim_step = a.kv.v_in_k ? bt : 1;
  out.max = kMinusInf;
  out.sum = 0.0F;
  std::fill_n(out.values, v_dim, 0.0F);
  for (std::size_t p = begin; p < end; ++p) {
    const std::byte* block = block_at(a.kv, a.blocks, p);
    float dot = 0.0F;
    for (std::size_t d = 0; d < z(a.kv.head_dim); ++d) {
      const float scale = scaled ? scale_at(block + scales.k_at(z(a.kv_head), d), p % bt) : 1.0F;
      const KElement at = k_element(a.kv, z(a.kv_head), d, p % bt);
      dot += q[d] * load(at.dtype, block + at.base, at.index) * scale;
    }
    scores[p - begin] = dot * a.scale;
    out.max = std::max(out.max, scores[p - begin]);
  }
  for (std::size_t p = begin; p < end; ++p) {
    const std::byte* block = block_at(a.kv, a.blocks, p);
    const float w = std::exp(scores[p - begin] - out.max);
    out.sum += w;
    for (std::size_t d = 0; d < v_dim; ++d) {
      const float scale = scaled ? scale_at(block + scales.v_at(z(a.kv_head), d), p % bt) : 1.0F;
      out.values[d] += w * load(a.kv.dtype, block, v_first + p % bt * token_step + d * dim_step) * scale;
    }
  }
}

std::size_t split_count(const AttentionArgs& a) {
  return (z(a.position) + z(a.tokens) + z(kKvSplitTokens) - 1) / z(kKvSplitTokens);
}

/// Where split s of (token, head of the group) lies in `partial`: max, sum, v_dim values.
float* partial_at(const AttentionArgs& a, std::size_t token, std::size_t g, std::size_t s) {
  const std::size_t group = z(a.heads / a.kv.kv_heads);
  return a.partial + ((token * group + g) * split_count(a) + s) * (2 + z(a.kv.v_dim));
}

void finish(const AttentionArgs& a, std::size_t token, std::size_t g, const State& total) {
  const std::size_t head = z(a.kv_head) * z(a.heads / a.kv.kv_heads) + g;
  float* out = a.out + token * a.out_stride + head * z(a.kv.v_dim);
  for (std::size_t d = 0; d < z(a.kv.v_dim); ++d) out[d] = total.values[d] / total.sum;
}

std::size_t attention_scratch_floats(const AttentionArgs& a) {
  return z(kKvSplitTokens) + 2 * z(a.kv.v_dim);
}

void attend(const AttentionArgs& a, std::size_t t, std::size_t g) {
  const std::size_t head = z(a.kv_head) * z(a.heads / a.kv.kv_heads) + g;
  const float* q = a.q + t * a.q_stride + head * z(a.kv.head_dim);
  const std::size_t visible = z(a.position) + t + 1;
  float* values = a.scratch + z(kKvSplitTokens);
  State total{.values = values};
  std::fill_n(total.values, z(a.kv.v_dim), 0.0F);
  for (std::size_t s = z(a.split_begin); s < std::min(z(a.split_end), split_count(a)); ++s) {
    const std::size_t begin = s * z(kKvSplitTokens);
    const std::size_t end = std::max(begin, std::min(begin + z(kKvSplitTokens), visible));
    float* at = a.partial != nullptr ? partial_at(a, t, g, s) : nullptr;
    State part{.values = at != nullptr ? at + 2 : values + z(a.kv.v_dim)};
    attend_split(a, q, begin, end, a.scratch, part);
    if (at != nullptr) {
      at[0] = part.max;
      at[1] = part.sum;
    } else {
      merge(total, part, z(a.kv.v_dim));
    }
  }
  if (a.partial == nullptr) finish(a, t, g, total);
}

void attention(const AttentionArgs& a) {
  check_kv(a.kv);
  for (std::size_t t = 0; t < z(a.tokens); ++t) {
    for (std::size_t g = 0; g < z(a.heads / a.kv.kv_heads); ++g) attend(a, t, g);
  }
}

void attention_merge(const AttentionArgs& a) {
  HP_CHECK(a.partial != nullptr && a.scratch != nullptr);
  for (std::size_t t = 0; t < z(a.tokens); ++t) {
    for (std::size_t g = 0; g < z(a.heads / a.kv.kv_heads); ++g) {
      State total{.values = a.scratch};
      std::fill_n(total.values, z(a.kv.v_dim), 0.0F);
      for (std::size_t s = 0; s < split_count(a); ++s) {
        float* at = partial_at(a, t, g, s);
        merge(total, {.max = at[0], .sum = at[1], .values = at + 2}, z(a.kv.v_dim));
      }
      finish(a, t, g, total);
    }
  }
}

}  // namespace

const KernelTable& ref_table() {
  static constexpr KernelTable kTable = {
      .isa = Isa::ref,
      .operand_kind = operand_kind,
      .to_bf16 = to_bf16,
      .to_q8 = to_q8,
      .matmul = matmul,
      .rms_norm = rms_norm,
      .add = add,
      .swiglu = swiglu,
      .rope = rope,
      .kv_write = kv_write,
      .attention_scratch_floats = attention_scratch_floats,
      .attention = attention,
      .attention_merge = attention_merge,
      .unpack_row = unpack_row,
  };
  return kTable;
}

}  // namespace hp::kernels
