// The one truth about bytes: the KV cache of a model. Engine and planner both ask
// here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/model_config.h"
#include "tensor/dtype.h"

namespace hp {

struct KvLayout {
  DType dtype = DType::f16;
  std::int32_t block_tokens = 16;  ///< tokens per KV block
};

/// Bytes of KV cache per token over all layers: K and V per kv head, or the MLA latent (kv_lora_rank + rope) alone.
std::size_t kv_bytes_per_token(const ModelConfig& config, DType kv_dtype);
std::size_t kv_bytes_per_block(const ModelConfig& config, const KvLayout& layout);

}  // namespace hp
