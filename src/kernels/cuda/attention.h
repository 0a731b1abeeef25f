// GPU operations of grouped-query attention over paged KV, and what every attention shares: shapes and a step's work.
#pragma once

#include "kernels/cuda/ahead.h"
#include "kernels/cuda/launch.h"

namespace hp::cuda {

/// One layer's KV on the device: [blocks, kv_heads, head_dim / 64, 16 tokens, 64]. bf16: a token's groups of 8 lie
/// swizzled by the token, as the tensor cores read shared memory (kv_place.cuh): blocks are copied there as they are.
/// fp8: e4m3, scale 1, beyond ±448 the largest; the middle two of four dimensions change places; expanded to the same
/// bf16 tiles, so that all arithmetic is that of bf16.
struct KvLayer {
  void *k = nullptr, *v = nullptr;
  bool fp8 = false;
};

struct AttentionShape {
  int heads = 0, kv_heads = 0, head_dim = 0;
  [[nodiscard]] constexpr int group() const { return heads / kv_heads; }
  [[nodiscard]] constexpr int row() const { return (heads + 2 * kv_heads) * head_dim; }
  /// Bytes of a block's keys; its values have as many.
  [[nodiscard]] constexpr std::size_t block_bytes(bool fp8) const {
    return static_cast<std::size_t>(kv_heads * head_dim * kBlockTokens) * (fp8 ? sizeof(Fp8) : sizeof(Bf16));
  }
};

struct RopeArgs {
  const float *cos = nullptr, *sin = nullptr;        ///< [context, rope_dims / 2]
  const float *q_norm = nullptr, *k_norm = nullptr;  ///< [head_dim] or null
  float eps = 0;
  int rope_dims = 0;
  bool interleaved = false;  ///< pairs (2i, 2i + 1) rather than (i, i + rope_dims / 2)
};

/// Normalizes (if asked) and rotates q in place and writes k, v to their slots (block · 16 + offset; < 0: none).
void rope_and_store(Bf16* qkv, const AttentionShape& shape, const RopeArgs& rope, const int* positions,
                    const int* slots, int t, const KvLayer& kv, cudaStream_t stream);

/// Sequences that attend with one token (decode) and tiles of sequences that attend with many (prefill). Device arrays.
struct AttentionBatch {
  const int* tables = nullptr;  ///< [sequences, table_stride] KV blocks
  int table_stride = 0;
  int decodes = 0;                       ///< entries of the arrays below; length 0: an unused entry
  const int* decode_row = nullptr;       ///< row in the batch
  const int* decode_sequence = nullptr;  ///< row of tables
  const int* decode_length = nullptr;    ///< keys to attend to, own one included
  const int* decode_first = nullptr;     ///< its first piece of work
  int works = 0;                         ///< units of all decodes together; sizes the grid
  const int2* work = nullptr;            ///< {entry, unit}; entry < 0: unused
  bool whole = true;                     ///< latent attention may run many decodes range after range
  Ahead ahead;                           ///< brought by decodes, by thread blocks of their own
  int tiles = 0;
  const int4* tile = nullptr;  ///< {row of the first token, sequence, position of the first token, tokens}
};

/// Query tokens of a prefill tile.
int prefill_tile_tokens(const AttentionShape& shape);
/// Floats of scratch for so many pieces of work.
std::size_t attention_scratch(const AttentionShape& shape, int works);
/// Whether a decode can rotate and store its own token inside attention (`rope` below).
bool attention_rotates(const AttentionShape& shape, const RopeArgs& rope);
/// attended bf16 [t, heads · head_dim] from qkv rows: rotated ones, or, with `rope` and decodes only, raw ones, whose
/// keys and values are then stored here.
void attention(const Bf16* qkv, const AttentionShape& shape, const KvLayer& kv, const AttentionBatch& batch,
               float scale, const RopeArgs* rope, float* scratch, Bf16* attended, cudaStream_t stream);

}  // namespace hp::cuda
