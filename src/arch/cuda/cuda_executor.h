// The executor of a GPU: feeds a checkpoint to the plug-in and runs steps there. Grouped-query and latent attention,
// dense layers and experts. Owns no kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "arch/cuda/plugin_api.h"
#include "arch/executor.h"
#include "base/result.h"
#include "model/checkpoint.h"

namespace hp {

/// "bf16", "fp8", "int8", "int4".
std::string_view to_string(cuda::WeightType weights);
std::optional<cuda::WeightType> gpu_weights_from(std::string_view name);

struct CudaExecutorOptions {
  int device = 0;
  cuda::WeightType weights = cuda::WeightType::bf16;  ///< what the layers' matrices become, whatever the file holds
  bool batch_invariant = true;                        ///< false: faster, and bits depend on what else is in a step
  cuda::KvType kv = cuda::KvType::bf16;
  std::size_t kv_bytes = 0;  ///< 0: what is free after the weights
  std::int32_t max_step_tokens = 2048;
  std::int32_t max_logit_rows = 256;
  std::int32_t context = 0;  ///< most positions of a sequence; 0: the model's own
};

/// Why the GPU cannot run this model, or nothing: the shape alone, without a GPU.
Status cuda_supports(const ModelConfig& config);

/// The checkpoint is read during the call only. `api` outlives the executor.
Result<std::unique_ptr<Executor>> make_cuda_executor(const Checkpoint& checkpoint, const CudaExecutorOptions& options,
                                                     const cuda::PluginApi& api);

/// The same without files, every weight made on the device: for benchmarks of a model's shape.
Result<std::unique_ptr<Executor>> make_random_cuda_executor(const ModelConfig& config,
                                                            const CudaExecutorOptions& options,
                                                            const cuda::PluginApi& api);

}  // namespace hp
