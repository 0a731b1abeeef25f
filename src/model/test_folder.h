// A Hugging Face folder for tests, put together tensor by tensor: plain floats, fp8 with block scales as DeepSeek
// stores them, int4 and int8 as compressed-tensors does. Keeps what every matrix means as floats.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "model/checkpoint.h"
#include "model/safetensors_writer.h"
#include "tensor/dtype.h"

namespace hp {

/// How matrices are stored. fp8 in blocks of 128 × 128; int4 and int8 in groups along a row.
struct FolderForm {
  enum class Kind { bf16, fp8, int4, int8 } kind = Kind::bf16;
  DType scales = DType::f32;  ///< of fp8: f32, bf16 or f8_e8m0; of groups: bf16 or f32
  int group = 128;            ///< of int4 and int8
  bool zero_points = false;   ///< of int4
};

class TestFolder {
 public:
  TestFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "homeport_folder_XXXXXX").string();
    HP_CHECK(::mkdtemp(pattern.data()) != nullptr, "no temporary folder");
    path_ = pattern;
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// [n, k] as the file means it, by Hugging Face's name without ".weight".
  [[nodiscard]] const std::vector<float>& meaning(const std::string& name) const { return meaning_.at(name); }

  void floats(const std::string& name, std::int64_t count, float mean, float spread) {
    std::vector<std::uint16_t> bits;
    for (std::int64_t i = 0; i < count; ++i) bits.push_back(f32_to_bf16(mean + spread * normal_(rng_)));
    add(name, DType::bf16, Shape{count}, bits.data());
  }

  void matrix(const std::string& name, std::int64_t n, std::int64_t k, const FolderForm& form) {
    switch (form.kind) {
      case FolderForm::Kind::bf16:
        return bf16(name, n, k);
      case FolderForm::Kind::fp8:
        return fp8(name, n, k, form.scales);
      case FolderForm::Kind::int4:
        return int4(name, n, k, form);
      case FolderForm::Kind::int8:
        return int8(name, n, k, form);
    }
  }

  Result<Checkpoint> open(const std::string& config) {
    std::ofstream(path_ / "config.json") << config;
    std::vector<SafetensorsEntry> entries;
    for (const auto& [entry, bytes] : tensors_) entries.push_back(entry);
    auto writer = SafetensorsWriter::create(path_ / "model.safetensors", entries);
    if (!writer) return fail(std::move(writer).error());
    for (std::size_t i = 0; i < tensors_.size(); ++i) HP_TRY_VOID(writer->write(i, 0, tensors_[i].second));
    HP_TRY_VOID(writer->finish());
    return Checkpoint::open(path_);
  }

  /// One llama layer: hidden 256, 4 heads of 64, 2 of keys, a feed-forward of `ffn`, a vocabulary of 96.
  Result<Checkpoint> open_llama(const FolderForm& form, int ffn) {
    matrix("model.embed_tokens", 96, 256, {});
    matrix("lm_head", 96, 256, {});
    const std::string p = "model.layers.0.";
    for (const std::string& norm : {std::string("model.norm"), p + "input_layernorm", p + "post_attention_layernorm"})
      floats(norm + ".weight", 256, 1.0F, 0.1F);
    matrix(p + "self_attn.q_proj", 256, 256, form);
    matrix(p + "self_attn.k_proj", 128, 256, form);
    matrix(p + "self_attn.v_proj", 128, 256, form);
    matrix(p + "self_attn.o_proj", 256, 256, form);
    matrix(p + "mlp.gate_proj", ffn, 256, form);
    matrix(p + "mlp.up_proj", ffn, 256, form);
    matrix(p + "mlp.down_proj", 256, ffn, form);
    return open(
        R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":1,"hidden_size":256,"intermediate_size":)" +
        std::to_string(ffn) +
        R"(,"vocab_size":96,"max_position_embeddings":64,"num_attention_heads":4,"num_key_value_heads":2)" +
        quantization(form) + "}");
  }

  static std::string quantization(const FolderForm& form) {
    if (form.kind == FolderForm::Kind::bf16) return "";
    if (form.kind == FolderForm::Kind::fp8)
      return R"(,"quantization_config":{"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic",)"
             R"("weight_block_size":[128,128]})";
    return R"(,"quantization_config":{"quant_method":"compressed-tensors"})";
  }

 private:
  template <typename T>
  void add(const std::string& name, DType dtype, const Shape& shape, const T* data) {
    const SafetensorsEntry entry{.name = name, .dtype = dtype, .shape = shape};
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    tensors_.emplace_back(entry, std::vector<std::byte>(bytes, bytes + entry.bytes()));
  }

  /// Rounds a scale to its type, in place, and stores it.
  void scales(const std::string& name, DType type, const Shape& shape, std::vector<float>& values) {
    std::vector<std::uint8_t> powers;
    std::vector<std::uint16_t> halves;
    for (float& v : values) {
      powers.push_back(static_cast<std::uint8_t>(120 + rng_() % 4));
      if (type == DType::f8_e8m0) v = f8_e8m0_to_f32(powers.back());
      halves.push_back(f32_to_bf16(v));
      if (type == DType::bf16) v = bf16_to_f32(halves.back());
    }
    if (type == DType::f8_e8m0) return add(name, type, shape, powers.data());
    if (type == DType::bf16) return add(name, type, shape, halves.data());
    add(name, DType::f32, shape, values.data());
  }

  void bf16(const std::string& name, std::int64_t n, std::int64_t k) {
    std::vector<std::uint16_t> bits;
    std::vector<float>& means = meaning_[name];
    for (std::int64_t i = 0; i < n * k; ++i) {
      bits.push_back(f32_to_bf16(0.1F * normal_(rng_)));
      means.push_back(bf16_to_f32(bits.back()));
    }
    add(name + ".weight", DType::bf16, Shape{n, k}, bits.data());
  }

  void fp8(const std::string& name, std::int64_t n, std::int64_t k, DType type) {
    constexpr std::int64_t kBlock = 128;
    const std::int64_t across = (k + kBlock - 1) / kBlock, down = (n + kBlock - 1) / kBlock;
    std::vector<float> scale(static_cast<std::size_t>(across * down));
    for (float& s : scale) s = 0.001F * (1.0F + uniform_(rng_));
    scales(name + ".weight_scale_inv", type, Shape{down, across}, scale);
    std::vector<std::uint8_t> codes;
    std::vector<float>& means = meaning_[name];
    for (std::int64_t i = 0; i < n * k; ++i) {
      codes.push_back(f32_to_f8_e4m3(100.0F * normal_(rng_)));
      const std::int64_t block = i / k / kBlock * across + i % k / kBlock;
      means.push_back(f8_e4m3_to_f32(codes.back()) * scale[static_cast<std::size_t>(block)]);
    }
    add(name + ".weight", DType::f8_e4m3, Shape{n, k}, codes.data());
  }

  std::vector<float> group_scales(const std::string& name, std::int64_t n, std::int64_t groups, DType type) {
    std::vector<float> scale(static_cast<std::size_t>(n * groups));
    for (float& s : scale) s = 0.01F * (1.0F + uniform_(rng_));
    scales(name + ".weight_scale", type, Shape{n, groups}, scale);
    return scale;
  }

  /// Nibbles of q + 8, eight to a word, the first lowest; zero points lie eight rows to a word in the same way.
  void int4(const std::string& name, std::int64_t n, std::int64_t k, const FolderForm& form) {
    const std::int64_t groups = k / form.group;
    const std::vector<float> scale = group_scales(name, n, groups, form.scales);
    std::vector<std::uint32_t> words(static_cast<std::size_t>(n * k / 8)),
        zeros(static_cast<std::size_t>((n + 7) / 8 * groups));
    std::vector<float>& means = meaning_[name];
    std::vector<std::uint32_t> zero(scale.size(), 8);
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t g = 0; g < groups; ++g) {
        std::uint32_t& z = zero[static_cast<std::size_t>(r * groups + g)];
        if (form.zero_points) z = rng_() % 16;
        zeros[static_cast<std::size_t>(r / 8 * groups + g)] |= z << (4 * (r % 8));
      }
    for (std::int64_t i = 0; i < n * k; ++i) {
      const std::uint32_t q = rng_() % 16;
      words[static_cast<std::size_t>(i / 8)] |= q << (4 * (i % 8));
      const auto at = static_cast<std::size_t>(i / k * groups + i % k / form.group);
      means.push_back(scale[at] * (static_cast<float>(q) - static_cast<float>(zero[at])));
    }
    const std::vector<std::int64_t> shape{n, k};
    add(name + ".weight_packed", DType::i32, Shape{n, k / 8}, words.data());
    add(name + ".weight_shape", DType::i64, Shape{2}, shape.data());
    if (form.zero_points) add(name + ".weight_zero_point", DType::i32, Shape{(n + 7) / 8, groups}, zeros.data());
  }

  void int8(const std::string& name, std::int64_t n, std::int64_t k, const FolderForm& form) {
    const std::int64_t groups = k / form.group;
    const std::vector<float> scale = group_scales(name, n, groups, form.scales);
    std::vector<std::int8_t> codes;
    std::vector<float>& means = meaning_[name];
    for (std::int64_t i = 0; i < n * k; ++i) {
      codes.push_back(static_cast<std::int8_t>(static_cast<int>(rng_() % 255) - 127));
      means.push_back(scale[static_cast<std::size_t>(i / k * groups + i % k / form.group)] *
                      static_cast<float>(codes.back()));
    }
    add(name + ".weight", DType::i8, Shape{n, k}, codes.data());
  }

  std::filesystem::path path_;
  std::vector<std::pair<SafetensorsEntry, std::vector<std::byte>>> tensors_;
  std::map<std::string, std::vector<float>> meaning_;
  std::mt19937 rng_{5};
  std::normal_distribution<float> normal_{0.0F, 1.0F};
  std::uniform_real_distribution<float> uniform_{0.0F, 1.0F};
};

}  // namespace hp
