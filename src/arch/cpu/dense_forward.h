// One step of a dense grouped-query decoder on the CPU, straight down: embed, layers, logits. Owns the split of the
// work over the team; the arithmetic is the kernel table's.
//
// Batch invariance: members share out rows, panels and (sequence, kv head, tile) items, never a sum; every item's bits
// depend on the item alone. Tiles of queries begin at multiples of kQueryTile, so a split of KV never begins inside
// one.
#pragma once

#include <span>

#include "arch/cpu/run_state.h"
#include "arch/cpu/weights.h"
#include "arch/executor.h"
#include "arch/rope_table.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"
#include "model/model_config.h"

namespace hp {

inline constexpr std::int32_t kQueryTile = 16;

struct DenseModel {
  const ModelConfig& config;
  const kernels::KernelTable& table;
  const DenseWeights& weights;
  const RopeTable& rope;
  RunState& state;
  ParallelTeam& team;
  kernels::KvView kv;  ///< of layer 0
};

/// Runs every member of the team through the step; logits lie in state.logits in the order of the sequences.
void dense_forward(const DenseModel& model, std::span<const SequenceStep> batch);

/// Arguments of the attention of one tile at its widest, for sizing scratch.
kernels::AttentionArgs widest_attention(const ModelConfig& config, const kernels::KvView& kv, std::int32_t context);

}  // namespace hp
