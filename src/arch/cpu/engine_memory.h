// What the CPU executor would allocate for a model, from shapes and types alone: nothing is read, nothing is packed.
#pragma once

#include <functional>
#include <string_view>

#include "arch/cpu/cpu_executor.h"
#include "model/engine_memory.h"
#include "model/tensor_table.h"

namespace hp {

/// A model before it is loaded: from a checkpoint's table, or a catalog's shape with a format.
struct ModelTypes {
  const ModelConfig& config;
  TensorForms forms;
  std::function<DType(std::string_view tensor)> type_of;  ///< by canonical name
  bool block_scales = false;                              ///< fp8 matrices have scales (weight_scale_inv)
};

/// Equal, to the byte, to ExecutorInfo::memory of make_cpu_executor with the same options.
Result<EngineMemory> cpu_engine_memory(const ModelTypes& model, const CpuExecutorOptions& options);
/// The sum over `world` ranks, as make_ranks_executor makes them.
Result<EngineMemory> ranks_engine_memory(const ModelTypes& model, const CpuExecutorOptions& options, int world);
/// The types that a checkpoint holds.
ModelTypes types_of(const Checkpoint& checkpoint);

}  // namespace hp
