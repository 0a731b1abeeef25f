// One step of a decoder on the CPU, straight down: embed, layers, logits. The parts are gqa_attention or
// mla_attention, and dense_ffn or moe_ffn; the arithmetic is the kernel table's.
#pragma once

#include <span>

#include "arch/cpu/step_member.h"

namespace hp {

/// Runs every member of the team through the step; logits lie in state.logits in the order of the sequences.
void forward(const CpuModel& model, std::span<const SequenceStep> batch);

/// One layer over state.x, by one member; `index` chooses its share of the KV cache.
void run_layer(const StepMember& m, const LayerWeights& w, std::int32_t index);

/// Runs the prediction layer over tokens that follow rows of the last step: sequence i's tokens belong to the rows from
/// first_rows[i] on, which are at least as far back as their place in this batch. Logits as in forward().
void predict(const CpuModel& model, std::span<const SequenceStep> batch, std::span<const std::int32_t> first_rows);

/// How one layer's KV lies in a block; base and stride are the caller's.
kernels::KvView kv_view(const ModelConfig& config, DType dtype, std::int32_t block_tokens);

/// Arguments of the attention of one tile at its widest, for sizing scratch.
kernels::AttentionArgs widest_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context);

}  // namespace hp
