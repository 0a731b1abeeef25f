#include "model/footprint.h"

#include <algorithm>

namespace hp {

std::size_t kv_bytes_per_token(const ModelConfig& config, DType kv_dtype) {
  const std::int64_t per_layer = config.mla.has_value()
                                     ? std::int64_t{config.mla->kv_lora_rank} + config.mla->qk_rope_dim
                                     : std::int64_t{config.kv_heads} * (config.head_dim + config.v_head_dim);
  return storage_bytes(kv_dtype, static_cast<std::size_t>(per_layer * config.layers));
}

std::size_t kv_bytes_per_block(const ModelConfig& config, const KvLayout& layout) {
  return kv_bytes_per_token(config, layout.dtype) * static_cast<std::size_t>(layout.block_tokens);
}

}  // namespace hp
