// A model's files, opened: configuration, tensors by canonical name, tokenizer source. GGUF (one file or splits)
// and Hugging Face folders look the same from here. Tensor bytes are views into mapped files.
//
// Canonical names are GGUF's: token_embd.weight, blk.N.attn_q.weight, blk.N.ffn_gate_exps.weight, output_norm.weight, …
// (tensor_names.h maps Hugging Face names to them). What Hugging Face stores per expert is
// blk.N.ffn_gate_exps.E.weight, and DeepSeek's fp8 block scales are …weight_scale_inv.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/model_config.h"
#include "model/tensor_table.h"
#include "tensor/tensor_view.h"

namespace hp {

struct NamedTensor {
  std::string name;
  TensorView view;     ///< data is null for a matrix that compressed_tensors.h puts together
  std::string source;  ///< file it lies in, for messages
};

class GgufFile;

class Checkpoint {
 public:
  /// A .gguf file (the first of its splits), or a folder with config.json and *.safetensors. Everything is checked
  /// here: offsets, lengths, shapes against the configuration. An error names the file, the tensor, the shape expected
  /// and the shape found.
  static Result<Checkpoint> open(const std::filesystem::path& path);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  [[nodiscard]] const ModelConfig& config() const;
  [[nodiscard]] std::span<const NamedTensor> tensors() const;
  /// How this checkpoint cuts kv_b and experts; tensor_table(config(), forms()) lists what it has.
  [[nodiscard]] TensorForms forms() const;
  /// Null when absent.
  [[nodiscard]] const NamedTensor* find(std::string_view name) const;
  /// Tells the kernel that a tensor has been packed and its pages can go.
  void release(const NamedTensor& tensor) const;

  /// The GGUF metadata (of the first split), or null for a Hugging Face folder.
  [[nodiscard]] const GgufFile* gguf() const;
  /// The folder with tokenizer.json and tokenizer_config.json, empty for GGUF.
  [[nodiscard]] const std::filesystem::path& folder() const;
  /// Hash over configuration, tensor table and a sample of the bytes: the identity of the weights.
  [[nodiscard]] const std::string& fingerprint() const;

 private:
  struct State;
  static Status load_gguf(const std::filesystem::path& path, State& state);
  static Status load_folder(const std::filesystem::path& folder, State& state);
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace hp
