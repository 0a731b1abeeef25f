// GPU operations of DeepSeek's multi-head latent attention: the cache holds one latent and one rotary key per token for
// all heads; queries are brought into the latent space, attention runs there, and its result is brought back per head.
#pragma once

#include "kernels/cuda/attention.h"

namespace hp::cuda {

inline constexpr int kLatentDims = 512, kLatentRope = 64, kLatentKey = kLatentDims + kLatentRope;
/// Bytes of a block of 16 tokens: [9, 16, 64] bf16, swizzled as keys are; or [8, 16, 64] e4m3 of the latents and [16,
/// 64] bf16 of the rotary keys, whose few dimensions are large and carry all of a position.
inline constexpr int kLatentBlock = kBlockTokens * kLatentKey * 2,
                     kLatentFp8Block = kBlockTokens * (kLatentDims + 2 * kLatentRope);
inline constexpr int kLatentUnit = 64;   ///< keys that are in shared memory at once
inline constexpr int kLatentTile = 2;    ///< query tokens of a prefill tile
inline constexpr int kLatentHeads = 16;  ///< heads of a thread block: the tensor instruction's rows

struct LatentShape {
  int heads = 0, nope = 0, v_dim = 0;
  [[nodiscard]] constexpr int query() const { return nope + kLatentRope; }
  /// Keys of a partial result; folded in order. Few heads fill few thread blocks: their ranges are short.
  [[nodiscard]] constexpr int range() const { return heads <= 32 ? 128 : 512; }
  [[nodiscard]] static constexpr std::size_t block_bytes(bool fp8) { return fp8 ? kLatentFp8Block : kLatentBlock; }
};

/// Where a step's projections lie: queries [t, heads · (nope + 64)], and latent with rotary key [t, 576].
struct LatentRows {
  const Bf16 *queries = nullptr, *latent = nullptr;
  int query_stride = 0, latent_stride = 0;  ///< elements from one token to the next
};

struct LatentPrepare {
  const float* kv_norm = nullptr;  ///< [512]
  float eps = 0;
  const float *cos = nullptr, *sin = nullptr;  ///< [context, 32]
  const int *positions = nullptr, *slots = nullptr;
};

/// Normalizes and stores the latent, rotates and stores the key, and puts the rotated part of the queries into
/// queries [t, heads, 576] (its last 64). The cache is kv.k.
void latent_prepare(const LatentRows& rows, const LatentShape& shape, const LatentPrepare& args, int t,
                    const KvLayer& kv, Bf16* queries, cudaStream_t stream);

/// Per head h: out[t, h · out_head + n] = Σ_k in[t, h · in_head + k] · w[h · rows + n, k] for n < rows; k a multiple
/// of 16.
struct HeadProduct {
  const Bf16* in = nullptr;
  int in_stride = 0, in_head = 0;
  const Bf16* weight = nullptr;
  int rows = 0, k = 0, heads = 0;
  Bf16* out = nullptr;
  int out_stride = 0, out_head = 0;
};
void head_product(const HeadProduct& product, int t, cudaStream_t stream);

inline constexpr int kLatentFew = 16;  ///< most decodes of the two functions below: rows of the tensor instruction

/// latent_prepare and the head product with k_b in one kernel, for few tokens; nope up to 128.
void latent_queries(const LatentRows& rows, const LatentShape& shape, const LatentPrepare& args, const Bf16* k_b, int t,
                    const Ahead& ahead, const KvLayer& kv, Bf16* queries, cudaStream_t stream);
bool latent_queries_fit(const LatentShape& shape);
/// The fold of decodes' ranges and the head product with v_b in one kernel: out [t, heads · v_dim].
void latent_values(const LatentShape& shape, const AttentionBatch& batch, const float* scratch, const Bf16* v_b,
                   Bf16* out, cudaStream_t stream);

/// attended [t, heads, 512] over the latents. The batch's work is in ranges, its tiles have kLatentTile tokens.
/// attended null: decodes' ranges stay in scratch for latent_values.
void latent_attention(const Bf16* queries, const LatentShape& shape, const KvLayer& kv, const AttentionBatch& batch,
                      float scale, float* scratch, Bf16* attended, cudaStream_t stream);
bool latent_decodes_whole(const AttentionBatch& batch);
std::size_t latent_scratch(const LatentShape& shape, int works);

}  // namespace hp::cuda
