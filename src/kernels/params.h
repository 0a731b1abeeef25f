// Plain argument structs of every kernel operation. No ownership, no behaviour: shapes in comments, bytes elsewhere.
//
// The rule behind all of them (docs: ARCHITECTURE.md, batch invariance): a row's result depends on that row and the
// weights alone. Sums over K run in one fixed order that the packed layout dictates, so one row and many rows give the
// same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace hp::kernels {

/// Output columns per packed panel: one AVX-512 register of 32-bit lanes, two AVX2 registers, one AMX tile row.
inline constexpr std::int32_t kPanelColumns = 16;
/// Elements that share one activation scale, and the K step of quantized products.
inline constexpr std::int32_t kQuantGroup = 32;
/// Prepared activations are integers of up to ±kQuantLimit in two planes of bytes, q = 16 · hi + lo with |hi| ≤ 127 and
/// -8 ≤ lo ≤ 7: eight bits alone cost 2.5 % of the greedy tokens of a small model. A group of both planes is one cache
/// line, and one row of an AMX tile against weights [16 · w; w].
inline constexpr std::int32_t kQuantLimit = 2039;
inline constexpr std::int32_t kNarrowLimit = 127;  ///< of the high plane alone
inline constexpr std::int32_t kQuantGroupBytes = 64;
/// Tokens per split of attention over KV; partial results are merged in split order whatever the batch is.
inline constexpr std::int32_t kKvSplitTokens = 512;

/// A weight [n, k] after packing (packing.h): panels of 16 columns, K in sequence inside a panel.
struct PackedMatrix {
  DType source = DType::f32;        ///< the format it was packed from; fixes the panel layout
  std::int32_t n = 0, k = 0;        ///< outputs, inputs
  std::size_t panel_bytes = 0;      ///< bytes from one panel to the next
  const std::byte* data = nullptr;  ///< 64-byte aligned
};

/// What a product wants its activations to look like: depends on the weight's format and on the ISA.
enum class OperandKind : std::uint8_t { f32, bf16, q8 };

/// Rows of activations prepared for products. Only the pointers of `kind` are read.
struct Operand {
  OperandKind kind = OperandKind::f32;
  std::int32_t rows = 0, k = 0;
  const float* f32 = nullptr;           // [rows, k]
  const std::uint16_t* bf16 = nullptr;  // [rows, k]
  const std::int8_t* q8 = nullptr;      // [rows, k / 32, 64]: x ≈ q · scale, q = 16 · hi + lo as 32 hi, then 32 lo
  const float* q8_scale = nullptr;      // [rows, k / 32]
  const float* q8_sum = nullptr;        // [rows, k / 32]: scale · Σq, for weights with an offset
  const std::int32_t* q8_isum = nullptr;  // [rows, k / 32]: pack_half_sums, for weights stored with a zero point
  const std::int32_t* row_ids = nullptr;  ///< when set, row i of the product is row row_ids[i] (expert grouping)
};

/// Σq of a group's first and last 16 in one word (low half, high half): what one multiply-add of 16-bit pairs needs.
constexpr std::int32_t pack_half_sums(std::int32_t first, std::int32_t last) {
  return static_cast<std::int32_t>((static_cast<std::uint32_t>(last) << 16U) |
                                   (static_cast<std::uint32_t>(first) & 0xFFFFU));
}

/// Where to_q8 writes rows of activations; the shapes are Operand's.
///
/// A group whose largest value is at most `narrow` times the mean of its row's largest values is rounded to 8 bits and
/// has a low plane of zeros, which costs no products where many rows go together; outliers keep all bits. 0: every
/// group does.
struct Q8Rows {
  std::int8_t* q = nullptr;
  float *scale = nullptr, *sum = nullptr;
  std::int32_t* isum = nullptr;
  float narrow = 0.0F;
};

/// out[m, n] = operand[m, :] · weight[n, :] (+ bias[n]) for the panels [panel_begin, panel_end).
struct MatmulArgs {
  Operand operand;
  std::int32_t m = 0;  ///< rows of the product; operand.rows unless row_ids is set
  PackedMatrix weight;
  const float* bias = nullptr;  // [n] or null
  float* out = nullptr;         // [m, out_stride]
  std::size_t out_stride = 0;   ///< floats from one output row to the next
  bool accumulate = false;      ///< out += instead of out =
  std::int32_t panel_begin = 0, panel_end = 0;
};

/// Where one layer's KV lives: block b of the layer starts at base + b · block_stride. K comes first, then V.
/// Within a block and kv head: K is [head_dim, block_tokens] (tokens across lanes), V is [block_tokens, v_dim].
/// Latent attention stores one vector per token (v_in_k): V is the first v_dim rows of K, and no second copy follows.
struct KvView {
  std::byte* base = nullptr;
  std::size_t block_stride = 0;
  DType dtype = DType::f16;  ///< f32, f16, bf16, f8_e4m3, or i8 with scales behind the values (kv_scales.h)
  std::int32_t block_tokens = 16;
  std::int32_t kv_heads = 0, head_dim = 0, v_dim = 0;
  bool v_in_k = false;
  std::int32_t k_bf16 = 0;  ///< so many of K's last dimensions are bf16: rotary keys beside latents of f8_e4m3
};

/// Writes the K and V rows of `tokens` consecutive positions of one sequence into its blocks.
struct KvWriteArgs {
  KvView kv;
  const std::int32_t* blocks = nullptr;  ///< block table of the sequence
  std::int32_t position = 0, tokens = 0;
  const float* k = nullptr;  // [tokens, k_stride], kv_heads · head_dim used
  const float* v = nullptr;  // [tokens, v_stride], kv_heads · v_dim used; not read when v_in_k
  std::size_t k_stride = 0, v_stride = 0;
  std::int32_t head_begin = 0, head_end = 1 << 30;  ///< kv heads to write, as far as there are
};

/// Causal attention of `tokens` consecutive queries of one sequence, for one kv head and its group of query heads,
/// over the splits [split_begin, split_end) of kKvSplitTokens tokens each. Latent attention (kv_heads 1) is called with
/// ranges of its query heads: a head's bits must not depend on which heads or tokens come along.
struct AttentionArgs {
  KvView kv;
  const std::int32_t* blocks = nullptr;
  std::int32_t position = 0, tokens = 0;  ///< position of the first query
  std::int32_t heads = 0;                 ///< query heads in all; heads / kv_heads share one kv head
  std::int32_t kv_head = 0;
  float scale = 1.0F;
  const float* q = nullptr;  // [tokens, q_stride], heads · head_dim used
  std::size_t q_stride = 0;
  std::int32_t split_begin = 0, split_end = 0;
  float* out = nullptr;  // [tokens, out_stride], heads · v_dim used; written when `partial` is null
  std::size_t out_stride = 0;
  /// When set, results stay unnormalized for attention_merge: per (token, head of the group, split) max, sum, v_dim
  /// values.
  float* partial = nullptr;
  float* scratch = nullptr;  ///< attention_scratch_floats() floats, this member's own
};

}  // namespace hp::kernels
