// A decoder's weights in memory: every matrix packed for the kernels, norms and biases as floats. Owns the
// packed bytes; knows nothing of steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "model/checkpoint.h"
#include "tensor/buffer.h"

namespace hp {

/// A row of floats; empty when the model does not have it.
using FloatRow = std::vector<float>;

struct GqaWeights {
  FloatRow q_norm, k_norm;          // [head_dim], empty without q/k norm
  FloatRow q_bias, k_bias, v_bias;  // [outputs], empty without bias
  kernels::PackedMatrix q;          // [heads · head_dim, hidden]
  kernels::PackedMatrix k;          // [kv_heads · head_dim, hidden]
  kernels::PackedMatrix v;          // [kv_heads · v_dim, hidden]
  kernels::PackedMatrix o;          // [hidden, heads · v_dim]
};

struct FfnWeights {
  kernels::PackedMatrix gate, up;  // [ffn, hidden]
  kernels::PackedMatrix down;      // [hidden, ffn]
};

struct LayerWeights {
  FloatRow attn_norm, ffn_norm;  // [hidden]
  GqaWeights gqa;
  FfnWeights ffn;
};

struct ModelWeights {
  Buffer packed;
  kernels::PackedMatrix embedding;  // [vocab, hidden]
  kernels::PackedMatrix head;       // [vocab, hidden]; the embedding itself when tied
  FloatRow output_norm;             // [hidden]
  std::vector<LayerWeights> layers;
};

/// Packs the checkpoint's matrices with the whole team and gives each tensor's mapped pages back as soon as it is
/// packed. An error names the tensor that is missing, misshapen or of a type that the kernels cannot multiply with.
Result<ModelWeights> load_weights(const Checkpoint& checkpoint, ParallelTeam& team);

}  // namespace hp
