// The one table from Hugging Face tensor names to canonical (GGUF) ones, for decoders of the Llama, Qwen and DeepSeek
// families. Names only: shapes are checkpoint.cpp's business.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hp {

/// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight"; empty for a tensor the forward pass does not read
/// or that the table does not know.
std::optional<std::string> canonical_tensor_name(std::string_view hf_name);

}  // namespace hp
