// DeepSeek's multi-head latent attention of one layer (arXiv 2405.04434, section 2.1), in absorbed form: queries go
// into the latent space, attend to the cached latents themselves, and only the result is expanded to values. Prefill
// runs the same way, so that its bits are those of decoding. The cache holds kv_lora_rank + rope elements per token.
#pragma once

#include "arch/cpu/step_member.h"

namespace hp {

/// Reads and updates state.x. Ends with a barrier.
void mla_attention(const StepMember& m, const FloatRow& norm, const MlaWeights& w, std::int32_t layer);

/// How a layer's latents lie in a KV block.
kernels::KvView mla_kv_view(const ModelConfig& config, DType dtype, std::int32_t block_tokens);
/// Arguments of the attention of one tile at its widest, for sizing scratch.
kernels::AttentionArgs widest_mla_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context);

}  // namespace hp
