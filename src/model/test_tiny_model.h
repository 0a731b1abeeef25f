// A tiny random llama-shaped GGUF for tests, every tensor f32 unless `matrices` says otherwise; members may break it.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "model/test_gguf_writer.h"
#include "tensor/dtype.h"

namespace hp {

struct TinyModel {
  std::string architecture = "llama";
  std::uint32_t layers = 2, hidden = 64, heads = 4, kv_heads = 2, ffn = 96, vocab = 128, context = 2048;
  float yarn_factor = 0.0F, yarn_attn_factor = 0.0F;  ///< 0: no scaling
  bool bias = false, qk_norm = false, tied = false;
  DType matrices = DType::f32;  ///< f32, bf16 or a block type: rows of random blocks
  std::string skip_tensor;      ///< left out
  std::string misshape_tensor;  ///< written with one row too many
  std::string skip_key;         ///< metadata key (without the architecture) left out

  [[nodiscard]] std::string bytes() const {
    TestGgufWriter w;
    w.add_string("general.architecture", architecture);
    const auto key = [&](const char* name, std::uint32_t value) {
      if (skip_key != name) w.add_u32(architecture + "." + name, value);
    };
    key("block_count", layers);
    key("embedding_length", hidden);
    key("feed_forward_length", ffn);
    key("context_length", context);
    key("attention.head_count", heads);
    key("attention.head_count_kv", kv_heads);
    w.add_f32(architecture + ".attention.layer_norm_rms_epsilon", 1e-5F);
    if (yarn_factor > 0.0F) {
      w.add_string(architecture + ".rope.scaling.type", "yarn");
      w.add_f32(architecture + ".rope.scaling.factor", yarn_factor);
      w.add_f32(architecture + ".rope.scaling.attn_factor", yarn_attn_factor);
      key("rope.scaling.original_context_length", context);
    }
    std::mt19937 rng(7);
    std::normal_distribution<float> normal(0.0F, 0.2F);
    const auto tensor = [&](const std::string& name, std::uint64_t inner, std::uint64_t outer) {
      if (name == skip_tensor) return;
      if (name == misshape_tensor) ++outer;
      if (outer > 1 && matrices != DType::f32) {
        w.add_tensor(name, {inner, outer}, gguf_type(matrices), random_blocks(matrices, inner * outer, rng));
        return;
      }
      std::vector<float> values(inner * outer);
      for (float& v : values) v = normal(rng);
      w.add_f32_tensor(name, outer == 1 ? std::vector<std::uint64_t>{inner} : std::vector<std::uint64_t>{inner, outer},
                       values);
    };
    const std::uint64_t d = hidden, head = hidden / heads, kv = head * kv_heads;
    tensor("token_embd.weight", d, vocab);
    tensor("output_norm.weight", d, 1);
    if (!tied) tensor("output.weight", d, vocab);
    for (std::uint32_t i = 0; i < layers; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      tensor(p + "attn_norm.weight", d, 1);
      tensor(p + "ffn_norm.weight", d, 1);
      tensor(p + "attn_q.weight", d, d);
      tensor(p + "attn_k.weight", d, kv);
      tensor(p + "attn_v.weight", d, kv);
      tensor(p + "attn_output.weight", d, d);
      tensor(p + "ffn_gate.weight", d, ffn);
      tensor(p + "ffn_up.weight", d, ffn);
      tensor(p + "ffn_down.weight", ffn, d);
      if (bias) {
        tensor(p + "attn_q.bias", d, 1);
        tensor(p + "attn_k.bias", kv, 1);
        tensor(p + "attn_v.bias", kv, 1);
      }
      if (qk_norm) {
        tensor(p + "attn_q_norm.weight", head, 1);
        tensor(p + "attn_k_norm.weight", head, 1);
      }
    }
    return w.bytes();
  }

  /// How a block type stands in a file: its GGUF number, where its f16 scale and minimum lie (-1: none), a small scale.
  struct BlockForm {
    DType type;
    std::uint32_t gguf;
    int scale_at, minimum_at;
    float scale, minimum;
  };
  static BlockForm block_form(DType type) {
    constexpr BlockForm forms[] = {
        {DType::q4_0, 2, 0, -1, 0.03F, 0},        {DType::q4_1, 3, 0, 2, 0.03F, -0.2F},
        {DType::q5_0, 6, 0, -1, 0.015F, 0},       {DType::q5_1, 7, 0, 2, 0.015F, -0.2F},
        {DType::q8_0, 8, 0, -1, 0.002F, 0},       {DType::q2_k, 10, 80, 82, 0.005F, 0.002F},
        {DType::q3_k, 11, 108, -1, 0.002F, 0},    {DType::q4_k, 12, 0, 2, 0.0005F, 0.002F},
        {DType::q5_k, 13, 0, 2, 0.0005F, 0.002F}, {DType::q6_k, 14, 208, -1, 0.0005F, 0},
        {DType::iq4_nl, 20, 0, -1, 0.002F, 0},    {DType::iq4_xs, 23, 0, -1, 0.0001F, 0},
    };
    for (const BlockForm& form : forms)
      if (form.type == type) return form;
    return {DType::bf16, 30, -1, -1, 0, 0};
  }
  static std::uint32_t gguf_type(DType type) { return block_form(type).gguf; }

  /// Random quants under scales that keep weights near 0.1.
  static std::string random_blocks(DType type, std::size_t count, std::mt19937& rng) {
    std::string out(storage_bytes(type, count), '\0');
    if (type == DType::bf16) {
      std::normal_distribution<float> normal(0.0F, 0.2F);
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint16_t bits = f32_to_bf16(normal(rng));
        std::memcpy(&out[2 * i], &bits, 2);
      }
      return out;
    }
    for (char& c : out) c = static_cast<char>(rng());
    const BlockForm form = block_form(type);
    const std::uint16_t scale = f32_to_f16(form.scale), minimum = f32_to_f16(form.minimum);
    const std::size_t block = traits(type).block_bytes;
    for (std::size_t at = 0; at < out.size(); at += block) {
      std::memcpy(&out[at + static_cast<std::size_t>(form.scale_at)], &scale, 2);
      if (form.minimum_at >= 0) std::memcpy(&out[at + static_cast<std::size_t>(form.minimum_at)], &minimum, 2);
    }
    return out;
  }

  /// Writes the file under the temporary folder and returns its path.
  [[nodiscard]] std::filesystem::path write(const std::string& name) const {
    const auto path = std::filesystem::temp_directory_path() / ("homeport_" + name + ".gguf");
    std::ofstream(path, std::ios::binary) << bytes();
    return path;
  }
};

}  // namespace hp
