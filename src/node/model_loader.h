// A model path made ready to run: checkpoint, tokenizer, chat family, executor. Knows no server: `homeport run` and
// `bench` start here too. Reads whole files and takes seconds to minutes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arch/cpu/cpu_executor.h"
#include "arch/cuda/plugin_api.h"
#include "arch/executor.h"
#include "base/result.h"
#include "model/model_config.h"
#include "text/chat.h"
#include "text/token_trie.h"
#include "text/tokenizer.h"

namespace hp {

struct LoadOptions {
  std::filesystem::path path;        ///< a .gguf file or a folder with config.json and *.safetensors
  std::string device = "auto";       ///< cpu; cuda or cuda:N; auto: a GPU that can run the model, else the CPU
  std::string gpu_weights = "bf16";  ///< what matrices become on a GPU: bf16, fp8, int8, int4
  bool batch_invariant = true;       ///< false: faster kernels without this rule, on a GPU only
  std::string isa = "auto";          ///< of the CPU: auto, ref, avx2, avx512, amx
  int tensor_parallel = 1;           ///< ranks that share the model, on the CPU; bits depend on it
  int threads = 0;                   ///< compute threads; 0: as many as this process may run at once
  std::string kv_dtype;              ///< f32, f16, bf16, int8, fp8; empty: f32 on ref, f16 on other CPUs, bf16 on a GPU
  std::size_t kv_bytes = 0;          ///< 0: kDefaultKvBytes
  std::int32_t context = 0;          ///< most tokens of a sequence; 0: the model's own
  std::int32_t max_step_tokens = 512;  ///< prompt and answer tokens of one step
  std::int32_t max_running = 64;       ///< sequences of one step
  bool predict = false;                ///< load a next-token-prediction layer too, for speculation
};

/// A model that can run. Moves; the tokenizer is shared with everything that reads tokens.
struct NodeModel {
  ModelConfig config;
  std::string name;         ///< what /v1/models shows unless told otherwise: the file's or folder's stem
  std::string fingerprint;  ///< of the weights
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatFamily> family;  ///< empty: only plain completions; `no_chat` says why
  std::string no_chat;
  std::vector<TokenId> stop_tokens;       ///< every token that ends an answer
  std::shared_ptr<const TokenTrie> trie;  ///< of the vocabulary, for grammars
  std::unique_ptr<Executor> executor;
};

/// An error names the file and what to do.
Result<NodeModel> load_model(const LoadOptions& options);

/// The number in "cuda:N"; 0 for "cuda" and "auto".
/// The KV type that `name` is; nothing: the device's own choice.
Result<std::optional<DType>> kv_dtype_of(const std::string& name);
/// What a GPU keeps its KV cache in, from the same names; others are errors.
Result<cuda::KvType> gpu_kv_of(const std::string& kv_dtype);
Result<int> gpu_index(const std::string& device);

/// What the CPU's executor is made with.
Result<CpuExecutorOptions> cpu_options(const LoadOptions& options);

/// The executor alone, for measuring; the file may lack a tokenizer.
Result<std::unique_ptr<Executor>> load_executor(const LoadOptions& options);

/// The tokenizer alone, for tools.
Result<Tokenizer> load_tokenizer(const std::filesystem::path& path);

}  // namespace hp
