// Grouped-query attention of one layer: normed input → q, k, v → rotate, cache, attend → added to the residual.
#pragma once

#include "arch/cpu/step_member.h"

namespace hp {

/// Reads and updates state.x. Ends with a barrier.
void gqa_attention(const StepMember& m, const FloatRow& norm, const GqaWeights& w, std::int32_t layer);

/// Arguments of the attention of one tile at its widest, for sizing scratch.
kernels::AttentionArgs widest_gqa_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context);

}  // namespace hp
