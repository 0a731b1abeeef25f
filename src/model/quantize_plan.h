// What becomes of every tensor of a checkpoint under a recipe: formats, names and shapes of the output, its shards and
// its quantization_config. Decides, writes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/quantize_formats.h"
#include "model/safetensors_file.h"
#include "model/safetensors_writer.h"
#include "model/tensor_table.h"

namespace hp {

/// fp8: DeepSeek's layout. int8, int4: compressed-tensors. mixed: feed-forward and experts int4, the rest fp8.
enum class QuantRecipe { fp8, int8, int4, mixed };
std::string_view to_string(QuantRecipe recipe);
std::optional<QuantRecipe> quant_recipe_from_name(std::string_view name);

struct PlannedTensor {
  const SafetensorsFile* file = nullptr;
  const SafetensorsTensor* source = nullptr;
  std::string_view class_name;  ///< for the report: "attention", "experts", …
  WeightStorage storage = WeightStorage::copy;
  std::vector<SafetensorsEntry> outputs;  ///< values first, then scales, then the shape
  [[nodiscard]] std::size_t output_bytes() const;
};

struct QuantizePlan {
  std::vector<PlannedTensor> tensors;
  std::vector<std::size_t> shard_begin;  ///< first tensor of each shard
  std::int64_t group = 0;                ///< of int4
  bool embeddings = false;               ///< embedding and head are fp8 as well
  std::size_t bytes_before = 0, bytes_after = 0;
  std::string quantization_config;  ///< JSON
  std::vector<std::string> notes;   ///< what the user should know
};

struct QuantizeChoices {
  QuantRecipe recipe = QuantRecipe::fp8;
  std::int64_t group = 0;  ///< 32, 64, 128, or 0: the largest that fits every matrix
  /// Empty: when they are more than a tenth of the weights, or mixed would miss 40 % of the size without them.
  std::optional<bool> embeddings;
  std::size_t shard_bytes = std::size_t{1} << 30U;
};

/// `checkpoint` and `shards` are the same folder, opened twice: once checked, once with the names of its files.
Result<QuantizePlan> plan_quantization(const Checkpoint& checkpoint, const std::vector<SafetensorsFile>& shards,
                                       const QuantizeChoices& choices);

}  // namespace hp
