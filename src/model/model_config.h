// What a checkpoint says about its own architecture, in one plain struct, whatever file format it came from.
// Read from GGUF metadata (gguf_config.cpp) or from config.json (hf_config.cpp); never hard-coded per model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace hp {

enum class Architecture { llama, qwen2, qwen3, deepseek_moe, deepseek_v2, deepseek_v3 };
std::string_view to_string(Architecture a);

/// How a head's rotary pairs lie: (0, 1), (2, 3), … or (0, d/2), (1, d/2 + 1), …
enum class RopeLayout { interleaved, halves };

struct RopeConfig {
  enum class Scaling { none, linear, llama3, yarn };
  float theta = 10000.0F;
  std::int32_t dims = 0;  ///< how many of a head's dimensions rotate
  RopeLayout layout = RopeLayout::halves;
  Scaling scaling = Scaling::none;
  float factor = 1.0F;
  std::int32_t original_context = 0;
  float low_freq_factor = 1.0F, high_freq_factor = 4.0F;  ///< llama3
  float beta_fast = 32.0F, beta_slow = 1.0F;              ///< yarn
  std::optional<float> attention_factor;                  ///< yarn: multiplies cos and sin; empty: 0.1 ln(factor) + 1
  float mscale = 0.0F, mscale_all_dim = 0.0F;             ///< yarn in DeepSeek V2/V3
  std::vector<float> frequency_divisors;  ///< GGUF rope_freqs.weight (llama3), one per pair; may be empty
};

/// DeepSeek's multi-head latent attention; empty for grouped-query attention.
struct MlaConfig {
  std::int32_t q_lora_rank = 0;  ///< 0: no low-rank query
  std::int32_t kv_lora_rank = 0, qk_nope_dim = 0, qk_rope_dim = 0, v_dim = 0;
};

struct MoeConfig {
  enum class Scoring { softmax, sigmoid };
  enum class GroupScore { none, max, top2_sum };  ///< none: plain top-k over all experts
  std::int32_t experts = 0, experts_per_token = 0, shared_experts = 0, expert_ffn = 0;
  std::int32_t first_dense_layers = 0, layer_step = 1;
  std::int32_t groups = 1, groups_per_token = 1;
  Scoring scoring = Scoring::softmax;
  GroupScore group_score = GroupScore::none;
  bool normalize_weights = false;
  bool has_score_bias = false;  ///< V3's e_score_correction_bias: selects, does not weigh
  float weight_scale = 1.0F;
};

/// What generation_config.json recommends; empty where it says nothing.
struct SamplingDefaults {
  std::optional<float> temperature, top_p, repetition_penalty;
  std::optional<std::int32_t> top_k;
};

struct ModelConfig {
  Architecture architecture = Architecture::llama;
  std::string name;  ///< as the file calls it
  std::int32_t layers = 0, hidden = 0, ffn = 0, vocab = 0, context = 0;
  std::int32_t heads = 0, kv_heads = 0, head_dim = 0, v_head_dim = 0;
  float rms_eps = 1e-6F;
  bool qkv_bias = false, qk_norm = false, tied_embeddings = false;
  RopeConfig rope;
  std::optional<MlaConfig> mla;
  std::optional<MoeConfig> moe;
  std::int32_t mtp_layers = 0;
  std::optional<TokenId> bos;
  std::vector<TokenId> eos;  ///< every token that ends an answer
  SamplingDefaults sampling;
  std::int32_t fp8_block_rows = 0, fp8_block_columns = 0;  ///< of weight_scale_inv; 0: no fp8 blocks

  [[nodiscard]] bool is_moe_layer(std::int32_t layer) const;
};

/// The factor on attention scores: (query dimensions)^-0.5, and for latent attention under YaRN the square of
/// 0.1 · mscale_all_dim · ln(factor) + 1 (DeepSeek-V2, modeling_deepseek.py).
double attention_scale(const ModelConfig& config);

/// Every size is positive, divides what it must divide, and fits the limits in limits.h; the error names the field.
Status validate(const ModelConfig& config);

}  // namespace hp
