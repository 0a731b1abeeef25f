// The engine's memory as the plan and bench commands see it.
#pragma once

#include "arch/cpu/cpu_executor.h"
#include "base/json.h"
#include "model/engine_memory.h"
#include "planner/model_costs.h"

namespace hp::cli {

void write_memory(JsonWriter& json, const EngineMemory& memory);
/// Of a shape in a format of the planner, split as GGUF files are.
Result<EngineMemory> engine_memory_of(const ModelConfig& config, const planner::WeightFormat& format,
                                      const CpuExecutorOptions& options);

}  // namespace hp::cli
