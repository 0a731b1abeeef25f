#include <algorithm>

#include "arch/cuda/cuda_executor.h"
#include "arch/cuda/plugin.h"
#include "cli/bench.h"
#include "node/model_loader.h"
#include "planner/model_costs.h"

namespace hp::cli {

Result<ModelConfig> shape_config(const ShapePlan& plan) {
  const std::vector<std::string> ids = planner::catalog_model_ids();
  std::string id = plan.name;
  for (const char* prefix : {"deepseek-", "deepseek-llm-"}) {  // v2-lite; 67b
    const std::string_view bare = std::string_view(plan.name).starts_with("deepseek-")
                                      ? std::string_view(plan.name).substr(std::string_view("deepseek-").size())
                                      : std::string_view(plan.name);
    const std::string longer = prefix + std::string(bare);
    if (std::ranges::find(ids, id) == ids.end() && std::ranges::find(ids, longer) != ids.end()) id = longer;
  }
  HP_TRY(ModelConfig config, planner::catalog_model(id));
  if (plan.layers > config.layers)
    return fail(ErrorCode::invalid_argument, "--layers: {} has {} layers, found {}", id, config.layers, plan.layers);
  if (plan.layers > 0) config.layers = static_cast<std::int32_t>(plan.layers);
  if (config.mla) config.rope.layout = RopeLayout::interleaved;  // the catalog has sizes only
  config.context = std::min(config.context, 8192);
  return config;
}

Result<std::unique_ptr<Executor>> random_executor(const ShapePlan& plan, const std::string& device_name,
                                                  const std::string& kv_dtype, std::size_t kv_bytes,
                                                  std::int32_t sequences) {
  const auto weights = gpu_weights_from(plan.weights);
  if (!weights)
    return fail(ErrorCode::invalid_argument, "--random-weights: expected bf16, fp8, int8 or int4, found '{}'",
                plan.weights);
  HP_TRY(const ModelConfig config, shape_config(plan));
  HP_TRY(const int device, gpu_index(device_name));
  HP_TRY(const cuda::KvType kv, gpu_kv_of(kv_dtype));
  const auto api = cuda::load_plugin();
  if (!api) return fail(api.error().code, "--shape makes its weights on a GPU: {}", api.error().message);
  return make_random_cuda_executor(config,
                                   {.device = device,
                                    .weights = *weights,
                                    .batch_invariant = plan.batch_invariant,
                                    .kv = kv,
                                    .kv_bytes = kv_bytes,
                                    .max_logit_rows = std::max(256, sequences)},
                                   **api);
}

}  // namespace hp::cli
