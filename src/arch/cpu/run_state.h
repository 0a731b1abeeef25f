// Everything a step writes: activations, prepared operands, KV cache, logits. Allocated once; a step allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "kernels/params.h"
#include "model/model_config.h"
#include "tensor/buffer.h"

namespace hp {

struct RunStateSizes {
  std::int32_t rows = 0;        ///< most tokens of a step
  std::int32_t logit_rows = 0;  ///< most logit rows of a step
  std::int32_t blocks = 0, block_tokens = 16;
  DType kv_dtype = DType::f16;
  int members = 1;
  std::size_t scratch_floats = 0;  ///< of one member
};

/// Activations prepared as operands of products; an array is written when a weight of the product wants its kind.
struct PreparedRows {
  std::uint16_t* bf16 = nullptr;
  kernels::Q8Rows q8;
};

struct RunState {
  Buffer memory, kv;
  // Activations; the comment gives the shape with T = rows.
  float *x = nullptr, *normed = nullptr;                 // [T, hidden]
  float *q = nullptr, *k = nullptr, *v = nullptr;        // [T, heads · head_dim], [T, kv_heads · head_dim or v_dim]
  float* attended = nullptr;                             // [T, heads · v_dim]
  float *gate = nullptr, *up = nullptr, *act = nullptr;  // [T, ffn]
  float* logits = nullptr;                               // [logit_rows, vocab]
  float* scratch = nullptr;                              // [members, scratch_stride]
  std::size_t scratch_stride = 0;
  PreparedRows prepared;           // one operand at a time: [T, widest input]
  std::size_t layer_kv_bytes = 0;  ///< of one block; a block holds all layers, one after the other
};

/// Bytes of one layer's share of a KV block.
std::size_t dense_kv_layer_bytes(const ModelConfig& config, DType dtype, std::int32_t block_tokens);

Result<RunState> make_run_state(const ModelConfig& config, const RunStateSizes& sizes);

}  // namespace hp
