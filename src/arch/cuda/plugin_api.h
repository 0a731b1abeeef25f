// What libhomeport_cuda.so offers: a table of C functions over plain structs, so that the program needs no CUDA and the
// plug-in needs nothing of the program. Errors are sentences in a caller's buffer; functions return 0 when all went
// well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arch/cuda/fusion.h"

namespace hp::cuda {

inline constexpr std::uint32_t kPluginVersion = 6;
inline constexpr char kPluginEntry[] = "homeport_cuda_plugin";

/// DeepSeek's latent attention, with a latent of 512 and 64 rotary dimensions; nope = 0: grouped-query attention.
struct LatentDims {
  int nope = 0, v_dim = 0;
  int q_rank = 0;  ///< of low-rank queries; 0: full ones
};

/// A mixture of experts after the first dense layers; experts = 0: all layers are dense.
struct ExpertDims {
  int experts = 0, chosen = 0, ffn = 0;
  int shared_ffn = 0;  ///< of all shared experts together; 0: none
  int first_dense = 0;
  int groups = 1, chosen_groups = 1;
  bool sigmoid = false, best_two = false, normalize = false, has_bias = false;
  float weight_scale = 1.0F;
};

struct ModelShape {
  int layers = 0, hidden = 0, ffn = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  int context = 0;  ///< most positions of a sequence; rows of the rope tables
  float eps = 0, attention_scale = 0;
  int rope_dims = 0;
  bool rope_interleaved = false, qkv_bias = false, qk_norm = false;
  LatentDims latent;
  ExpertDims experts;
};

enum class WeightType : int { bf16, fp8, int8, int4 };  ///< of the layers' matrices; embedding and head stay bf16

/// Of the KV cache. fp8: e4m3, scale 1; latent attention keeps its rotary keys in bf16.
enum class KvType : int { bf16, fp8 };

struct ModelOptions {
  WeightType weights = WeightType::bf16;
  int group = 128;  ///< of int8 and int4: columns to a scale, 32, 64 or 128
  KvType kv = KvType::bf16;
  std::size_t kv_bytes = 0;  ///< 0: what is free after the weights, less a reserve
  int max_step_tokens = 2048, max_logit_rows = 256;
  bool invariant = true;  ///< a sequence's bits do not depend on its company; without this rule, faster kernels
  unsigned fusions = kDefaultFusions;  ///< bits of Fusion. Without some the same bits come slower, for benchmarks
};

/// Matrices are [outputs, inputs]. q_a: [q_rank, hidden]; q: [heads · query, q_rank or hidden]; kv_a: [576, hidden];
/// k_b: [heads · 512, nope]; v_b: [heads · v_dim, 512].
enum class WeightRole : int {
  embedding,
  head,
  output_norm,
  attn_norm,
  ffn_norm,
  q,
  k,
  v,
  o,
  gate,
  up,
  down,
  q_bias,
  k_bias,
  v_bias,
  q_norm,
  k_norm,
  kv_a,
  kv_a_norm,
  k_b,
  v_b,
  router,
  router_bias,
  shared_gate,
  shared_up,
  shared_down,
  expert_gate,
  expert_up,
  expert_down,
  q_a,
  q_a_norm,
};

/// Rows of one weight on the host: matrices as bf16 [rows, columns], e4m3 or whole numbers; norms and biases as f32
/// [rows].
struct WeightRows {
  WeightRole role = WeightRole::embedding;
  int layer = 0;
  int first = 0, rows = 0, columns = 0;  ///< may be a piece; first: a multiple of 128, or k_b's, v_b's head
  const void* data = nullptr;
  int expert = 0;
  /// Not null: data is in the form of the model's weights. fp8: scales [rows / 128, columns / 128], rounded up; int8,
  /// int4: [rows, columns / group], and codes as kernels/cuda/int_layout.h has them.
  const float* scales = nullptr;
};

struct DeviceInfo {
  char name[128] = {};
  int blocks = 0, block_tokens = 0;
  std::size_t block_bytes = 0, weight_bytes = 0, free_bytes = 0;
};

/// How a sequence's next token is drawn; temperature 0 takes the largest.
struct PluginDraw {
  float temperature = 0.0F, top_p = 1.0F, min_p = 0.0F;
  std::uint32_t choice = 0;
  std::uint64_t seed = 0, position = 0;  ///< of the first row's token
};

struct PluginSequence {
  const std::int32_t* tokens = nullptr;
  int count = 0, position = 0, logit_rows = 0;
  const std::int32_t* blocks = nullptr;
  PluginDraw draw;
};

struct PluginApi {
  std::uint32_t version = kPluginVersion;
  /// GPUs that this plug-in can use, with a reason in `error` when there are none.
  int (*devices)(char* error, std::size_t error_size);
  /// rope_cos, rope_sin: [context, rope_dims / 2].
  void* (*create)(int device, const ModelShape* shape, const ModelOptions* options, const float* rope_cos,
                  const float* rope_sin, char* error, std::size_t error_size);
  int (*load)(void* model, const WeightRows* rows);
  int (*load_random)(void* model, std::uint64_t seed);  ///< every weight, for benchmarks of a shape
  int (*finish)(void* model);                           ///< after the weights: takes the KV memory
  void (*info)(void* model, DeviceInfo* out);
  /// One step. logits (host, [rows, vocab], the model's own memory) when asked, and the drawn token of every row when
  /// asked: -1 where no logit is a number, -2 where the host must draw from the logits.
  int (*step)(void* model, const PluginSequence* batch, int sequences, const float** logits,
              const std::int32_t** drawn);
  int (*last_logits)(void* model, const float** logits);  ///< of the last step, when it did not bring them
  const char* (*error)(void* model);                      ///< of the last function that did not return 0
  void (*destroy)(void* model);
};

}  // namespace hp::cuda
