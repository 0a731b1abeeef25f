// A tiny random deepseek2 GGUF for tests, every tensor f32: latent attention, experts, groups, YaRN; V2's or V3's
// rules.
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "model/test_gguf_writer.h"

namespace hp {

struct TinyDeepseek {
  bool v3 = false;  ///< low-rank query, sigmoid scores with a bias, normalized and scaled weights
  bool split_kv_b = true, yarn = true, mtp = false;  ///< mtp: with a next-token-prediction layer
  std::uint32_t layers = 3, hidden = 64, heads = 4, ffn = 96, vocab = 128, context = 2048;
  std::uint32_t q_lora = 32, kv_lora = 32, nope = 16, rope = 8, v_dim = 16;
  std::uint32_t experts = 8, used = 3, shared = 2, expert_ffn = 32, dense_layers = 1, groups = 4, groups_used = 2;
  std::uint32_t lie_experts = 0, lie_kv_lora = 0, lie_rope = 0;  ///< other figures in the metadata
  std::string skip_tensor;
  int split_no = 0, split_count = 1;  ///< every split_count-th tensor from split_no on

  [[nodiscard]] std::string bytes() const {
    TestGgufWriter w;
    w.add_string("general.architecture", "deepseek2");
    metadata(w);
    std::mt19937 rng(11);
    std::normal_distribution<float> normal(0.0F, 1.0F);
    int index = 0;
    const auto tensor = [&](const std::string& name, std::vector<std::uint64_t> dims, float mean, float spread) {
      std::uint64_t count = 1;
      for (const std::uint64_t d : dims) count *= d;
      std::vector<float> values(count);
      for (float& v : values) v = mean + spread * normal(rng);
      if (name != skip_tensor && index++ % split_count == split_no) w.add_f32_tensor(name, dims, values);
    };
    const auto matrix = [&](const std::string& name, std::uint64_t in, std::uint64_t out) {
      tensor(name, {in, out}, 0.0F, 1.0F / std::sqrt(static_cast<float>(in)));
    };
    const auto stack = [&](const std::string& name, std::uint64_t in, std::uint64_t out, std::uint64_t count) {
      tensor(name, {in, out, count}, 0.0F, 1.0F / std::sqrt(static_cast<float>(in)));
    };
    const auto norm = [&](const std::string& name, std::uint64_t width) { tensor(name, {width}, 1.0F, 0.1F); };
    tensor("token_embd.weight", {hidden, vocab}, 0.0F, 1.0F);
    norm("output_norm.weight", hidden);
    matrix("output.weight", hidden, vocab);
    for (std::uint32_t i = 0; i < layers + (mtp ? 1 : 0); ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      norm(p + "attn_norm.weight", hidden);
      norm(p + "ffn_norm.weight", hidden);
      if (i >= layers) {
        norm(p + "nextn.enorm.weight", hidden);
        norm(p + "nextn.hnorm.weight", hidden);
        norm(p + "nextn.shared_head_norm.weight", hidden);
        matrix(p + "nextn.eh_proj.weight", std::uint64_t{2} * hidden, hidden);
      }
      attention(p, matrix, stack, norm);
      if (i < dense_layers) {
        matrix(p + "ffn_gate.weight", hidden, ffn);
        matrix(p + "ffn_up.weight", hidden, ffn);
        matrix(p + "ffn_down.weight", ffn, hidden);
        continue;
      }
      matrix(p + "ffn_gate_inp.weight", hidden, experts);
      if (v3) tensor(p + "exp_probs_b.bias", {experts}, 0.0F, 0.1F);
      stack(p + "ffn_gate_exps.weight", hidden, expert_ffn, experts);
      stack(p + "ffn_up_exps.weight", hidden, expert_ffn, experts);
      stack(p + "ffn_down_exps.weight", expert_ffn, hidden, experts);
      matrix(p + "ffn_gate_shexp.weight", hidden, shared * expert_ffn);
      matrix(p + "ffn_up_shexp.weight", hidden, shared * expert_ffn);
      matrix(p + "ffn_down_shexp.weight", shared * expert_ffn, hidden);
    }
    return w.bytes();
  }

  /// Writes the file under the temporary folder and returns its path.
  [[nodiscard]] std::filesystem::path write(const std::string& name) const {
    const auto path = std::filesystem::temp_directory_path() / ("homeport_" + name + ".gguf");
    std::ofstream(path, std::ios::binary) << bytes();
    return path;
  }

 private:
  void metadata(TestGgufWriter& w) const {
    const auto key = [&](const std::string& name, std::uint32_t value) { w.add_u32("deepseek2." + name, value); };
    key("block_count", layers + (mtp ? 1 : 0));
    if (mtp) key("nextn_predict_layers", 1);
    key("embedding_length", hidden);
    key("feed_forward_length", ffn);
    key("context_length", context);
    key("attention.head_count", heads);
    key("attention.head_count_kv", split_kv_b ? 1 : heads);
    w.add_f32("deepseek2.attention.layer_norm_rms_epsilon", 1e-6F);
    if (v3) key("attention.q_lora_rank", q_lora);
    key("attention.kv_lora_rank", lie_kv_lora != 0 ? lie_kv_lora : kv_lora);
    if (split_kv_b) {
      key("attention.key_length", kv_lora + rope);
      key("attention.value_length", kv_lora);
      key("attention.key_length_mla", nope + rope);
      key("attention.value_length_mla", v_dim);
    } else {
      key("attention.key_length", nope + rope);
      key("attention.value_length", v_dim);
    }
    key("rope.dimension_count", lie_rope != 0 ? lie_rope : rope);
    key("expert_count", lie_experts != 0 ? lie_experts : experts);
    key("expert_used_count", used);
    key("expert_shared_count", shared);
    key("expert_feed_forward_length", expert_ffn);
    key("leading_dense_block_count", dense_layers);
    key("expert_group_count", groups);
    key("expert_group_used_count", groups_used);
    key("expert_gating_func", v3 ? 2 : 1);
    w.add_f32("deepseek2.expert_weights_scale", v3 ? 2.5F : 16.0F);
    w.add_bool("deepseek2.expert_weights_norm", v3);
    if (yarn) {
      w.add_string("deepseek2.rope.scaling.type", "yarn");
      w.add_f32("deepseek2.rope.scaling.factor", 40.0F);
      key("rope.scaling.original_context_length", 64);
      w.add_f32("deepseek2.rope.scaling.yarn_log_multiplier", 0.0707F);
    }
    if (split_count > 1) {
      w.add_u16("split.no", static_cast<std::uint16_t>(split_no));
      w.add_u16("split.count", static_cast<std::uint16_t>(split_count));
    }
  }

  template <typename Matrix, typename Stack, typename Norm>
  void attention(const std::string& p, const Matrix& matrix, const Stack& stack, const Norm& norm) const {
    const std::uint64_t q = std::uint64_t{heads} * (nope + rope);
    if (v3) {
      matrix(p + "attn_q_a.weight", hidden, q_lora);
      norm(p + "attn_q_a_norm.weight", q_lora);
      matrix(p + "attn_q_b.weight", q_lora, q);
    } else {
      matrix(p + "attn_q.weight", hidden, q);
    }
    matrix(p + "attn_kv_a_mqa.weight", hidden, kv_lora + rope);
    norm(p + "attn_kv_a_norm.weight", kv_lora);
    if (split_kv_b) {
      stack(p + "attn_k_b.weight", nope, kv_lora, heads);
      stack(p + "attn_v_b.weight", kv_lora, v_dim, heads);
    } else {
      matrix(p + "attn_kv_b.weight", kv_lora, std::uint64_t{heads} * (nope + v_dim));
    }
    matrix(p + "attn_output.weight", std::uint64_t{heads} * v_dim, hidden);
  }
};

}  // namespace hp
