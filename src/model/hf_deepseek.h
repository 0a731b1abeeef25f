// The part of config.json that only DeepSeek's mixture-of-experts families have: latent attention, experts, routing,
// next-token-prediction layers. Names and defaults: configuration_deepseek.py of the published checkpoints.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "model/model_config.h"

namespace hp {

bool is_deepseek_moe(Architecture architecture);

/// Fills config.mla (V2, V3), config.moe, config.mtp_layers and what follows from them.
Status read_deepseek(const JsonValue& json, ModelConfig& config);

}  // namespace hp
