#include "model/quantize_plan.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/json.h"
#include "model/tensor_names.h"

namespace hp {
namespace {

constexpr std::array<std::string_view, 4> kRecipes = {"fp8", "int8", "int4", "mixed"};
constexpr double kLargeEmbeddings = 0.1;  // of all bytes
constexpr double kMixedSize = 0.4;        // what mixed promises to come down to, where the matrices allow it
constexpr std::string_view kWeight = ".weight";

std::string_view class_name(TensorClass c) {
  switch (c) {
    case TensorClass::embedding:
      return "embedding";
    case TensorClass::head:
      return "head";
    case TensorClass::attention:
      return "attention";
    case TensorClass::dense_ffn:
      return "feed-forward";
    case TensorClass::shared_expert:
      return "shared experts";
    case TensorClass::routed_expert:
      return "experts";
    case TensorClass::router:
      return "router";
    case TensorClass::norm:
    case TensorClass::prediction:
      break;
  }
  return "norms and others";
}

bool is_linear(std::string_view name) {
  return name == "attention" || name == "feed-forward" || name == "shared experts" || name == "experts";
}

std::int64_t blocks(std::int64_t n) {
  return (n + kFp8Block - 1) / kFp8Block;
}

WeightStorage storage_of(const PlannedTensor& t, const QuantizePlan& plan, QuantRecipe recipe) {
  const TensorView& view = t.source->view;
  if (view.shape.rank() != 2 || !t.source->name.ends_with(kWeight)) return WeightStorage::copy;
  if (t.class_name == "embedding" || t.class_name == "head") {
    return plan.embeddings ? WeightStorage::fp8 : WeightStorage::copy;
  }
  if (!is_linear(t.class_name)) return WeightStorage::copy;
  const bool divides = plan.group > 0 && view.shape[1] % plan.group == 0;
  switch (recipe) {
    case QuantRecipe::fp8:
      return WeightStorage::fp8;
    case QuantRecipe::int8:
      return WeightStorage::int8;
    case QuantRecipe::int4:
      return divides ? WeightStorage::int4 : WeightStorage::copy;
    case QuantRecipe::mixed:
      return t.class_name != "attention" && divides ? WeightStorage::int4 : WeightStorage::fp8;
  }
  return WeightStorage::copy;
}

void name_outputs(PlannedTensor& t, std::int64_t group, bool deepseek_fp8) {
  const std::string& name = t.source->name;
  const Shape& s = t.source->view.shape;
  switch (t.storage) {
    case WeightStorage::copy:
      t.outputs = {{name, t.source->view.dtype, s}};
      return;
    case WeightStorage::fp8:
      t.outputs = {{name, DType::f8_e4m3, s},
                   {name + (deepseek_fp8 ? "_scale_inv" : "_scale"), DType::f32, {blocks(s[0]), blocks(s[1])}}};
      return;
    case WeightStorage::int8:
      t.outputs = {{name, DType::i8, s}, {name + "_scale", DType::f32, {s[0], 1}}};
      return;
    case WeightStorage::int4:
      t.outputs = {{name + "_packed", DType::i32, {s[0], s[1] / 8}},
                   {name + "_scale", DType::bf16, {s[0], s[1] / group}},
                   {name + "_shape", DType::i64, {2}}};
      return;
  }
}

/// The largest group that every matrix which may become int4 is a multiple of; 0: none.
std::int64_t fitting_group(const std::vector<PlannedTensor>& tensors, QuantRecipe recipe) {
  for (const std::int64_t group : {128, 64, 32}) {
    const bool fits = std::all_of(tensors.begin(), tensors.end(), [&](const PlannedTensor& t) {
      const bool candidate = is_linear(t.class_name) && t.source->view.shape.rank() == 2 &&
                             (recipe == QuantRecipe::int4 || t.class_name != "attention");
      return !candidate || t.source->view.shape[1] % group == 0;
    });
    if (fits) return group;
  }
  return 0;
}

void weights_object(JsonWriter& w, WeightStorage storage, std::int64_t group) {
  w.key("weights").begin_object().member("num_bits", storage == WeightStorage::int4 ? 4 : 8);
  w.member("type", storage == WeightStorage::fp8 ? "float" : "int").member("symmetric", true).member("dynamic", false);
  if (storage == WeightStorage::int4) w.member("strategy", "group").member("group_size", group);
  if (storage == WeightStorage::int8) w.member("strategy", "channel");
  if (storage == WeightStorage::fp8) {
    w.member("strategy", "block").key("block_structure").begin_array().value(kFp8Block).value(kFp8Block).end_array();
  }
  w.end_object();
}

/// Modules of these tensors, without ".weight"; a list that compressed-tensors matches by name.
void targets(JsonWriter& w, const QuantizePlan& plan, WeightStorage storage) {
  w.key("targets").begin_array();
  for (const PlannedTensor& t : plan.tensors) {
    if (t.storage != storage) continue;
    w.value(std::string_view(t.source->name).substr(0, t.source->name.size() - kWeight.size()));
  }
  w.end_array();
}

void config_group(JsonWriter& w, const QuantizePlan& plan, WeightStorage storage, bool alone, int index) {
  const char* format = storage == WeightStorage::int4   ? "pack-quantized"
                       : storage == WeightStorage::int8 ? "int-quantized"
                                                        : "float-quantized";
  w.key("group_" + std::to_string(index)).begin_object();
  if (alone) {
    w.key("targets").begin_array().value("Linear").end_array();
  } else {
    targets(w, plan, storage);
  }
  weights_object(w, storage, plan.group);
  w.key("input_activations");
  if (storage == WeightStorage::int8) {
    w.begin_object().member("num_bits", 8).member("type", "int").member("symmetric", true);
    w.member("dynamic", true).member("strategy", "token").end_object();
  } else {
    w.null();
  }
  w.key("output_activations").null().member("format", format).end_object();
}

std::string quantization_config(const QuantizePlan& plan, QuantRecipe recipe) {
  std::string out;
  JsonWriter w(out);
  if (recipe == QuantRecipe::fp8) {
    w.begin_object().member("activation_scheme", "dynamic").member("fmt", "e4m3").member("quant_method", "fp8");
    w.key("weight_block_size").begin_array().value(kFp8Block).value(kFp8Block).end_array().end_object();
    return out;
  }
  const auto has = [&](WeightStorage s) {
    return std::any_of(plan.tensors.begin(), plan.tensors.end(), [s](const auto& t) { return t.storage == s; });
  };
  const bool alone = recipe != QuantRecipe::mixed;
  w.begin_object().member("quant_method", "compressed-tensors").member("quantization_status", "compressed");
  w.member("format", recipe == QuantRecipe::int4   ? "pack-quantized"
                     : recipe == QuantRecipe::int8 ? "int-quantized"
                                                   : "mixed-precision");
  w.key("config_groups").begin_object();
  int index = 0;
  for (const WeightStorage s : {WeightStorage::int4, WeightStorage::int8, WeightStorage::fp8}) {
    if (has(s)) config_group(w, plan, s, alone, index++);
  }
  w.end_object().key("ignore").begin_array();
  for (const PlannedTensor& t : plan.tensors) {
    const bool linear = is_linear(t.class_name) || t.class_name == "head" || t.class_name == "router";
    if (t.storage == WeightStorage::copy && linear && t.source->name.ends_with(kWeight)) {
      w.value(std::string_view(t.source->name).substr(0, t.source->name.size() - kWeight.size()));
    }
  }
  w.end_array().end_object();
  return out;
}

void cut_shards(QuantizePlan& plan, std::size_t shard_bytes) {
  std::size_t filled = 0;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const std::size_t bytes = plan.tensors[i].output_bytes();
    if (i == 0 || filled + bytes > shard_bytes) {
      plan.shard_begin.push_back(i);
      filled = 0;
    }
    filled += bytes;
    plan.bytes_after += bytes;
  }
}

void choose_storage(QuantizePlan& plan, QuantRecipe recipe) {
  for (PlannedTensor& t : plan.tensors) {
    t.storage = storage_of(t, plan, recipe);
    name_outputs(t, plan.group, recipe == QuantRecipe::fp8);
  }
}

std::size_t output_bytes(const QuantizePlan& plan) {
  std::size_t sum = 0;
  for (const PlannedTensor& t : plan.tensors) sum += t.output_bytes();
  return sum;
}

Status choose_group(const QuantizeChoices& choices, QuantizePlan& plan) {
  if (choices.recipe != QuantRecipe::int4 && choices.recipe != QuantRecipe::mixed) return {};
  plan.group = choices.group != 0 ? choices.group : fitting_group(plan.tensors, choices.recipe);
  if (plan.group == 0) {
    plan.group = 32;
    plan.notes.emplace_back("no group of 32, 64 or 128 divides every matrix: some keep a wider format");
  }
  if (plan.group != 32 && plan.group != 64 && plan.group != 128)
    return fail(ErrorCode::invalid_argument, "groups of {}: expected 32, 64 or 128", plan.group);
  return {};
}

}  // namespace

std::string_view to_string(QuantRecipe recipe) {
  return kRecipes[static_cast<std::size_t>(recipe)];
}
std::optional<QuantRecipe> quant_recipe_from_name(std::string_view name) {
  const auto* at = std::find(kRecipes.begin(), kRecipes.end(), name);
  if (at == kRecipes.end()) return std::nullopt;
  return static_cast<QuantRecipe>(at - kRecipes.begin());
}

std::size_t PlannedTensor::output_bytes() const {
  std::size_t sum = 0;
  for (const SafetensorsEntry& e : outputs) sum += e.bytes();
  return sum;
}

Result<QuantizePlan> plan_quantization(const Checkpoint& checkpoint, const std::vector<SafetensorsFile>& shards,
                                       const QuantizeChoices& choices) {
  std::map<std::string, TensorClass> classes;
  for (const TensorSpec& s : tensor_table(checkpoint.config(), checkpoint.forms())) classes[s.name] = s.tensor_class;
  QuantizePlan plan;
  std::size_t embedding_bytes = 0;
  for (const SafetensorsFile& file : shards) {
    for (const SafetensorsTensor& t : file.tensors()) {
      const auto canonical = canonical_tensor_name(t.name);
      const auto known = canonical ? classes.find(*canonical) : classes.end();
      const std::string_view name = known == classes.end() ? "norms and others" : class_name(known->second);
      const DType type = t.view.dtype;
      if (is_linear(name) && type != DType::bf16 && type != DType::f16 && type != DType::f32)
        return fail(
            ErrorCode::unsupported,
            "tensor '{}' in '{}' is {}: expected bf16, f16 or f32; quantize the original, not a checkpoint that "
            "is quantized already",
            t.name, file.name(), traits(type).name);
      plan.tensors.push_back({.file = &file, .source = &t, .class_name = name, .storage = {}, .outputs = {}});
      plan.bytes_before += t.view.bytes();
      if (name == "embedding" || name == "head") embedding_bytes += t.view.bytes();
    }
  }
  HP_TRY_VOID(choose_group(choices, plan));
  const auto share = [&plan](std::size_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(plan.bytes_before);
  };
  const bool may = choices.recipe == QuantRecipe::fp8 || choices.recipe == QuantRecipe::mixed;
  plan.embeddings = may && choices.embeddings.value_or(share(embedding_bytes) > kLargeEmbeddings);
  choose_storage(plan, choices.recipe);
  if (choices.recipe == QuantRecipe::mixed && !choices.embeddings && share(output_bytes(plan)) > kMixedSize) {
    plan.embeddings = true;
    choose_storage(plan, choices.recipe);
  }
  if (plan.embeddings)
    plan.notes.emplace_back(
        "embedding and head are fp8 too: other readers may want them in 16 bits (--embeddings keep)");
  cut_shards(plan, choices.shard_bytes);
  plan.quantization_config = quantization_config(plan, choices.recipe);
  return plan;
}

}  // namespace hp
