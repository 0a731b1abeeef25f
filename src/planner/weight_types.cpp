#include "planner/weight_types.h"

#include <charconv>

namespace hp::planner {
namespace {

constexpr std::int64_t kScaleBlock = 128;  // rows and columns of an fp8 scale

std::int32_t layer_of(std::string_view name) {
  std::int32_t layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

/// The layers that the usual q4_k_m recipe gives more bits: the first and last eighth, every third between.
bool gets_more_bits(std::int32_t layer, std::int32_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType wished(std::string_view format, const ModelConfig& config, const TensorSpec& t) {
  const bool end = t.tensor_class == TensorClass::embedding || t.tensor_class == TensorClass::head;
  if (format == "fp8") return end ? DType::bf16 : DType::f8_e4m3;
  if (format == "int8") return end ? DType::bf16 : DType::i8_32;
  if (format == "int4") return end ? DType::bf16 : DType::i4_64;
  if (format == "q8_0") return DType::q8_0;
  if (format == "q6_k") return DType::q6_k;
  if (format == "q4_0") return end ? DType::q6_k : DType::q4_0;
  if (format == "q4_1") return end ? DType::q6_k : DType::q4_1;
  if (format != "q4_k_m") return DType::bf16;
  const bool wide = t.name.find("attn_v.") != std::string::npos || t.name.find("ffn_down") != std::string::npos;
  const bool head = t.tensor_class == TensorClass::head || (end && config.tied_embeddings);
  return head || (wide && gets_more_bits(layer_of(t.name), config.layers)) ? DType::q6_k : DType::q4_k;
}

}  // namespace

DType tensor_type(const WeightFormat& format, const ModelConfig& config, const TensorSpec& t) {
  if (t.shape.rank() == 1 || t.tensor_class == TensorClass::router || t.tensor_class == TensorClass::norm)
    return DType::f32;
  DType type = wished(format.name, config, t);
  // Rows that the blocks do not divide get the next type that does.
  const auto fits = [&] { return t.shape.inner() % traits(type).block_size == 0; };
  if (!fits() && type == DType::q4_k) type = DType::q5_0;
  if (!fits() && type != DType::bf16) type = DType::q8_0;
  return fits() ? type : DType::bf16;
}

std::size_t file_bytes(const ModelConfig& config, const WeightFormat& format) {
  std::size_t total = 0;
  for (const TensorSpec& t : tensor_table(config, {.merged_experts = true})) {
    const DType type = tensor_type(format, config, t);
    total += storage_bytes(type, static_cast<std::size_t>(t.shape.elements()));
    if (type != DType::f8_e4m3) continue;
    const auto blocks = [](std::int64_t v) { return (v + kScaleBlock - 1) / kScaleBlock; };
    const std::int64_t inner = t.shape.inner();
    total += static_cast<std::size_t>(blocks(t.shape.elements() / inner) * blocks(inner)) * sizeof(float);
  }
  return total;
}

}  // namespace hp::planner
