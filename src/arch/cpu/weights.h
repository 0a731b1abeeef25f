// A decoder's weights in memory: every matrix packed for the kernels, norms and biases as floats. Owns the packed
// bytes; knows nothing of steps.
#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "arch/cpu/weight_packing.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "model/checkpoint.h"
#include "tensor/buffer.h"

namespace hp {

struct GqaWeights {
  FloatRow q_norm, k_norm;          // [head_dim], empty without q/k norm
  FloatRow q_bias, k_bias, v_bias;  // [outputs], empty without bias
  kernels::PackedMatrix q;          // [heads · head_dim, hidden]
  kernels::PackedMatrix k;          // [kv_heads · head_dim, hidden]
  kernels::PackedMatrix v;          // [kv_heads · v_dim, hidden]
  kernels::PackedMatrix o;          // [hidden, heads · v_dim]
};

struct MlaWeights {
  FloatRow q_a_norm, kv_a_norm;            // [q_lora_rank], [kv_lora_rank]
  kernels::PackedMatrix q_a;               // [q_lora_rank, hidden]; n is 0 without a low-rank query
  kernels::PackedMatrix q;                 // [heads · (nope + rope), q_lora_rank or hidden]
  kernels::PackedMatrix kv_a;              // [kv_lora_rank + rope, hidden]
  std::vector<kernels::PackedMatrix> k_b;  // per head [kv_lora_rank, nope]: queries into the latent space
  std::vector<kernels::PackedMatrix> v_b;  // per head [v_dim, kv_lora_rank]: values out of it
  kernels::PackedMatrix o;                 // [hidden, heads · v_dim]
};

struct FfnWeights {
  kernels::PackedMatrix gate, up;  // [ffn, hidden]
  kernels::PackedMatrix down;      // [hidden, ffn]
};

struct MoeWeights {
  kernels::PackedMatrix router;  // [experts, hidden], f32
  FloatRow score_bias;           // [experts], empty without
  std::vector<FfnWeights> experts;
  std::optional<FfnWeights> shared;
};

struct LayerWeights {
  FloatRow attn_norm, ffn_norm;  // [hidden]
  std::variant<GqaWeights, MlaWeights> attention;
  std::variant<FfnWeights, MoeWeights> ffn;
};

/// The next-token-prediction layer of DeepSeek-V3 (arXiv 2412.19437, section 2.2); embedding and head are the model's.
struct PredictionWeights {
  FloatRow embedding_norm, hidden_norm, output_norm;  // [hidden]
  kernels::PackedMatrix join;                         // [hidden, 2 · hidden]: embedding, then hidden state
  LayerWeights layer;
};

struct ModelWeights {
  Buffer packed;
  kernels::PackedMatrix embedding;  // [ids, hidden]
  kernels::PackedMatrix head;       // [ids, hidden]; the embedding itself when tied
  FloatRow output_norm;             // [hidden]
  std::vector<LayerWeights> layers;
  std::optional<PredictionWeights> prediction;
};

/// Of the packed matrices and of all rows of floats.
std::size_t bytes_held(const ModelWeights& weights);

/// Packs the checkpoint's matrices with the whole team and gives each tensor's mapped pages back as soon as it is
/// packed. An error names the tensor that is missing, misshapen or of a type that the kernels cannot multiply with.
/// `predicts` asks for the prediction layer, which the checkpoint must have. Embedding and head hold the plan's ids.
Result<ModelWeights> load_weights(const Checkpoint& checkpoint, const ShardPlan& plan, bool predicts,
                                  ParallelTeam& team);

}  // namespace hp
