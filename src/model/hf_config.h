// Reads a ModelConfig out of a Hugging Face config.json: the Llama, Qwen and DeepSeek families. What the
// file asks for and the forward pass does not do (sliding windows, other activations) is an error.
#pragma once

#include <string_view>

#include "base/result.h"
#include "model/model_config.h"

namespace hp {

/// The validated configuration from the text of config.json; `name` stands in messages.
Result<ModelConfig> config_from_hf(std::string_view json, std::string_view name);

/// Adds what generation_config.json says: tokens that end an answer, sampling defaults.
Status read_generation_config(std::string_view text, std::string_view name, ModelConfig& config);

}  // namespace hp
