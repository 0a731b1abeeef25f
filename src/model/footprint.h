// The one truth about bytes: weights as files hold them, KV cache, and the memory of a step. Engine, executor and
// planner all ask here. What kernels add (panels padded to 16 columns) is the executor's to report.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model_config.h"
#include "model/tensor_table.h"
#include "tensor/dtype.h"

namespace hp {

struct KvLayout {
  DType dtype = DType::f16;
  std::int32_t block_tokens = 16;      ///< tokens per KV block
  std::int32_t prediction_layers = 0;  ///< next-token-prediction layers that keep KV too
};

/// Bytes of KV cache per token and layer: K and V per kv head, or the MLA latent (kv_lora_rank + rope) alone; i8 counts
/// its scales, an f16 per group of dimensions (tensor/kv_groups.h).
std::size_t kv_bytes_per_token_layer(const ModelConfig& config, DType kv_dtype);
/// Over all layers but those of next-token prediction.
std::size_t kv_bytes_per_token(const ModelConfig& config, DType kv_dtype);
std::size_t kv_bytes_per_block(const ModelConfig& config, const KvLayout& layout);

/// Element types of the matrices; norms, biases and the router count as f32.
struct WeightTypes {
  DType embedding = DType::bf16, head = DType::bf16, attention = DType::bf16, dense_ffn = DType::bf16,
        shared_expert = DType::bf16, routed_expert = DType::bf16;
};
std::size_t parameters(const ModelConfig& config);
std::size_t parameters(const ModelConfig& config, TensorClass tensor_class);
/// Parameters that one token's step multiplies with: routed experts count experts_per_token of experts.
std::size_t active_parameters(const ModelConfig& config);
std::size_t weight_bytes(const ModelConfig& config, const WeightTypes& types);

/// The most that one step may hold.
struct StepLimits {
  std::int32_t rows = 0;  ///< tokens
  std::int32_t logit_rows = 0;
  int members = 1;                 ///< threads
  std::size_t scratch_floats = 0;  ///< of attention, per thread (the kernels say)
  bool predicts = false;           ///< with the next-token-prediction layer
  std::int32_t ranks = 1;          ///< that compute together; the configuration is then one rank's (shard.h)
};

/// Elements of every array of a step; an array that the architecture does not need has 0. T = rows, S = T ·
/// experts_per_token.
struct StepArrays {
  std::size_t x = 0, normed = 0;            // f32 [T, hidden]
  std::size_t q = 0, k = 0, v = 0;          // f32 [T, heads · head_dim], [T, kv width], [T, kv width]
  std::size_t q_low = 0, q_nope = 0;        // f32 [T, q_lora_rank], [T, heads · nope]
  std::size_t q_latent = 0, latent = 0;     // f32 [T, heads · (kv_lora_rank + rope)], [T, heads · kv_lora_rank]
  std::size_t pairs = 0;                    // f32 [T, 2 · hidden]: what the prediction layer begins with
  std::size_t attended = 0;                 // f32 [T, heads · v_dim]
  std::size_t gate = 0, up = 0, act = 0;    // f32 [T, ffn], or [S, expert_ffn] and behind it [T, shared ffn]
  std::size_t expert_out = 0;               // f32 [S, hidden]
  std::size_t scores = 0, slot_weight = 0;  // f32 [T, 2 · experts], [S]
  std::size_t route = 0;     // i32: expert of slot, slot of token, row of slot, first slot of expert, head rows
  std::size_t logits = 0;    // f32 [logit_rows, vocab]
  std::size_t joined = 0;    // f32 [T, hidden]: this rank's part of a sum over all ranks; 0 without others
  std::size_t gathered = 0;  // f32 [1 + ranks, logit_rows, ids of a rank]: own logits, then those of all
  std::size_t scratch = 0;   // f32, all members
  std::size_t prepared = 0, prepared_groups = 0;  // values of bf16 and of i8; groups of scale, sum and integer sum
  std::size_t shared_prepared = 0, shared_groups = 0;
};
StepArrays step_arrays(const ModelConfig& config, const StepLimits& limits);
/// Bytes of all of them as the executor lays them out, each piece aligned to 64 bytes.
std::size_t step_bytes(const StepArrays& arrays);

inline constexpr std::size_t kStepAlignment = 64;

}  // namespace hp
