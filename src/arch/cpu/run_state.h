// Everything a step writes: activations, prepared operands, KV cache, logits. Allocated once; a step allocates nothing.
// The sizes are model/footprint's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "kernels/params.h"
#include "model/footprint.h"
#include "model/model_config.h"
#include "tensor/buffer.h"

namespace hp {

struct RunStateSizes {
  StepLimits limits;
  std::int32_t blocks = 0;
  KvLayout kv;
};

/// Activations prepared as operands of products; an array is written when a weight of the product wants its kind.
struct PreparedRows {
  std::uint16_t* bf16 = nullptr;
  kernels::Q8Rows q8;
};

/// Tokens grouped by expert. A slot is one (token, expert) pair; slots of one expert lie together, tokens ascending.
struct ExpertRoute {
  std::int32_t* expert = nullptr;      // [T, experts per token], ascending
  std::int32_t* slot = nullptr;        // [T, experts per token]
  std::int32_t* row = nullptr;         // [slots]: token of the slot
  std::int32_t* first_slot = nullptr;  // [experts + 1]
};

/// The comment gives the shape with T = rows and S = T · experts per token; an architecture's unused arrays are empty.
struct RunState {
  Buffer memory, kv;
  float *x = nullptr, *normed = nullptr;           // [T, hidden]
  float *q = nullptr, *k = nullptr, *v = nullptr;  // [T, heads · head_dim], [T, kv_heads · dim]; k: [T, latent] in MLA
  float *q_low = nullptr, *q_nope = nullptr;       // [T, q_lora_rank], [T, heads · nope]
  float *q_latent = nullptr, *latent = nullptr;    // [T, heads · (kv_lora_rank + rope)], [T, heads · kv_lora_rank]
  float* pairs = nullptr;                          // [T, 2 · hidden]
  float* attended = nullptr;                       // [T, heads · v_dim]
  float *gate = nullptr, *up = nullptr, *act = nullptr;  // [T, ffn], or [S, expert_ffn] and behind it [T, shared ffn]
  float* expert_out = nullptr;                           // [S, hidden]
  float *scores = nullptr, *slot_weight = nullptr;       // [T, 2 · experts]: logits, then room to choose in; [S]
  float* logits = nullptr;                               // [logit_rows, vocab]
  float* joined = nullptr;  // [T, hidden], zeros between uses: this rank's part of a sum over all; null without others
  float* gathered = nullptr;  // [1 + ranks, logit rows of the step, ids of a rank]: own logits, then those of all
  float* scratch = nullptr;   // [members, scratch_stride]
  std::size_t scratch_stride = 0;
  PreparedRows prepared;                                 // one operand at a time: [T, widest input]
  std::size_t prepared_values = 0, prepared_groups = 0;  ///< room in `prepared`
  std::int32_t rows_room = 0;                            ///< rows that `normed` and `prepared` hold
  PreparedRows prepared_shared;                          // [T, shared ffn]
  ExpertRoute route;
  std::int32_t* head_rows = nullptr;  // [heads, T]: rows of one head in an operand [T · heads, dim] (MLA)
  std::int32_t head_rows_stride = 0;
  Status link;                     ///< what the exchanges with other ranks have come to
  std::size_t layer_kv_bytes = 0;  ///< of one block; a block holds all layers, one after the other
};

Result<RunState> make_run_state(const ModelConfig& config, const RunStateSizes& sizes);

}  // namespace hp
