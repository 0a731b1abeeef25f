// Reads a ModelConfig out of a Hugging Face config.json: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM. What the
// file asks for and the forward pass does not do (sliding windows, quantized weights, other activations) is an error.
#pragma once

#include <string_view>

#include "base/result.h"
#include "model/model_config.h"

namespace hp {

/// The validated configuration from the text of config.json; `name` stands in messages.
Result<ModelConfig> config_from_hf(std::string_view json, std::string_view name);

}  // namespace hp
