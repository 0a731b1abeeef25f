// A model as the roofline sees it: how many parameters each operation multiplies with, how much attention costs per
// token of context, how many bytes lie in memory. KV bytes come from model/footprint, the one truth about them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/model_config.h"

namespace hp::planner {

/// A weight format as deployed: how many bytes one parameter of the layers and of the output head takes, and which
/// multiply rate of the machine it uses.
struct WeightFormat {
  enum class Rate { fp32, bf16, fp8, int8 };
  std::string_view name;
  double layer_bytes = 2, head_bytes = 2;
  Rate rate = Rate::bf16;
};

const WeightFormat* find_format(std::string_view name);
std::string format_names();  ///< for messages: "bf16, fp8, …"

struct ModelCosts {
  ModelConfig config;
  double layers = 0, moe_layers = 0;
  // parameters over all layers
  double attention = 0, dense_ffn = 0, shared_experts = 0, router = 0;
  double one_expert = 0;  ///< one routed expert, all MoE layers together
  double experts = 0, experts_per_token = 0;
  double head = 0, embedding = 0;          ///< embedding 0 when it is the head too
  double attention_flops_per_context = 0;  ///< one token against one token of context, all layers

  [[nodiscard]] double total() const;
  [[nodiscard]] double active() const;  ///< multiplied for one token (without the embedding look-up)
  /// Experts that `rows` tokens touch when every token picks at random: E (1 - (1 - k/E)^rows).
  [[nodiscard]] double touched_experts(double rows) const;
};

ModelCosts costs_of(const ModelConfig& config);

struct CatalogModel {
  std::string id;
  ModelConfig config;
};

/// From the shipped catalog; an unknown id is an error that names the nearest.
Result<ModelConfig> catalog_model(std::string_view id);
/// Every id, for messages and completion.
std::vector<std::string> catalog_model_ids();

}  // namespace hp::planner
