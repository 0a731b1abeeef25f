// Every tensor that a forward pass reads, with the shape that the configuration gives it: the one list that checking a
// checkpoint, loading it and sizing it share. Knows no file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/model_config.h"
#include "tensor/tensor_view.h"

namespace hp {

/// What a tensor is for; precision and placement are decided per class.
enum class TensorClass {
  embedding,
  head,
  norm,
  attention,
  dense_ffn,
  router,
  shared_expert,
  routed_expert,
  prediction
};

struct TensorSpec {
  std::string name;  ///< canonical (checkpoint.h)
  Shape shape;
  TensorClass tensor_class;
  std::string_view formula;  ///< how the configuration gives the shape, for messages
};

/// Formats differ in how they cut two kinds of tensors.
struct TensorForms {
  bool split_kv_b = false;      ///< attn_k_b and attn_v_b per head instead of one attn_kv_b
  bool merged_experts = false;  ///< one tensor [experts, n, k] instead of one per expert
};

/// Includes the next-token-prediction layers; their embedding and head are the model's own.
std::vector<TensorSpec> tensor_table(const ModelConfig& config, TensorForms forms);

/// "blk.3.ffn_up_exps.weight" and 17 -> "blk.3.ffn_up_exps.17.weight"
std::string expert_tensor_name(std::string_view merged, std::int32_t expert);

}  // namespace hp
