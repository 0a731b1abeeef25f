// What a step on the CPU runs on, and a product as the parts of a forward pass ask for it.
#pragma once

#include <cstdint>

#include "arch/cpu/run_state.h"
#include "arch/cpu/weights.h"
#include "arch/rope_table.h"
#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "kernels/kernel_table.h"
#include "model/model_config.h"

namespace hp {

/// What a step runs on: everything but the batch.
struct CpuModel {
  const ModelConfig& config;
  const kernels::KernelTable& table;
  const ModelWeights& weights;
  const RopeTable& rope;
  RunState& state;
  ParallelTeam& team;
  kernels::KvView kv;             ///< of layer 0
  Communicator* ranks = nullptr;  ///< that hold the other heads, columns and ids; null: there are none
  std::int32_t first_id = 0;      ///< of the embedding's first row
};

/// A product of the step: weights that share one operand are cut over the team as one long row of panels.
struct Product {
  const kernels::PackedMatrix& weight;
  const FloatRow* bias;  ///< null or empty: none
  float* out;
  bool accumulate = false;
};

}  // namespace hp
