// Which experts a token goes to, and with which weights: DeepSeek's three gates (V2: greedy and group-limited greedy
// over a softmax; V3: sigmoid scores with a selecting bias and node-limited groups). Pure functions of one row.
// Source: MoEGate in modeling_deepseek.py of DeepSeek-V2 and DeepSeek-V3.
#pragma once

#include <cstdint>
#include <span>

#include "model/model_config.h"

namespace hp {

/// `scores` holds the router's logits and is overwritten with the scores; `choice` is room for as many. `bias` is empty
/// or [experts]. Writes experts_per_token experts in ascending order, and the weight of each. Equal scores go to the
/// lower expert.
void route_token(const MoeConfig& config, std::span<const float> bias, std::span<float> scores, std::span<float> choice,
                 std::span<std::int32_t> experts, std::span<float> weights);

}  // namespace hp
