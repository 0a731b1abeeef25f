#include "node/model_loader.h"

#include <algorithm>
#include <charconv>

#include "arch/cpu/cpu_executor.h"
#include "arch/cpu/ranks_executor.h"
#include "arch/cuda/cuda_executor.h"
#include "arch/cuda/plugin.h"
#include "base/cpu_count.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "model/checkpoint.h"
#include "node/gguf_tokenizer.h"
#include "node/limits.h"
#include "text/hf_tokenizer.h"

namespace hp {
namespace {

namespace fs = std::filesystem;

/// The text of a file of a model folder; an absent one reads as empty unless it is required.
Result<MappedFile> open_text(const fs::path& path, bool required) {
  std::error_code error;
  if (!required && !fs::exists(path, error)) return MappedFile();
  HP_TRY(MappedFile file, MappedFile::open(path));
  if (file.bytes().size() > kMaxTokenizerFileBytes)
    return fail(ErrorCode::corrupt_data, "{} has {} bytes; at most {} are read", path.string(), file.bytes().size(),
                kMaxTokenizerFileBytes);
  return file;
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

Result<TokenizerSource> source_from_folder(const fs::path& folder) {
  HP_TRY(const MappedFile tokenizer, open_text(folder / "tokenizer.json", true));
  HP_TRY(const MappedFile tokenizer_config, open_text(folder / "tokenizer_config.json", false));
  HP_TRY(const MappedFile generation_config, open_text(folder / "generation_config.json", false));
  HP_TRY(const MappedFile chat_template, open_text(folder / "chat_template.jinja", false));
  return tokenizer_source_from_json({.tokenizer = text_of(tokenizer),
                                     .tokenizer_config = text_of(tokenizer_config),
                                     .generation_config = text_of(generation_config),
                                     .chat_template = text_of(chat_template)});
}

Result<Tokenizer> tokenizer_of(const Checkpoint& checkpoint) {
  auto source = checkpoint.gguf() != nullptr ? tokenizer_source_from_gguf(*checkpoint.gguf())
                                             : source_from_folder(checkpoint.folder());
  if (!source) return fail(std::move(source).error().with_context("the model's tokenizer"));
  return Tokenizer::build(*std::move(source));
}

Result<cuda::WeightType> gpu_weights_of(const std::string& name) {
  if (const auto weights = gpu_weights_from(name)) return *weights;
  return fail(ErrorCode::invalid_argument, "expected GPU weights of bf16, fp8, int8 or int4, found '{}'", name);
}

Result<std::unique_ptr<Executor>> gpu_executor_of(const Checkpoint& checkpoint, const LoadOptions& o, int gpu) {
  HP_TRY_VOID(cuda_supports(checkpoint.config()));
  if (o.tensor_parallel > 1)
    return fail(ErrorCode::unsupported,
                "--tensor-parallel {}: several GPUs cannot share a model yet; with --device cpu "
                "ranks of threads can",
                o.tensor_parallel);
  HP_TRY(const cuda::PluginApi* api, cuda::load_plugin());
  HP_TRY(const cuda::WeightType weights, gpu_weights_of(o.gpu_weights));
  HP_TRY(const cuda::KvType kv, gpu_kv_of(o.kv_dtype));
  return make_cuda_executor(checkpoint,
                            {.device = gpu,
                             .weights = weights,
                             .batch_invariant = o.batch_invariant,
                             .kv = kv,
                             .kv_bytes = o.kv_bytes,
                             .max_step_tokens = o.max_step_tokens,
                             .max_logit_rows = o.max_running,
                             .context = o.context},
                            *api);
}

}  // namespace

Result<std::optional<DType>> kv_dtype_of(const std::string& name) {
  if (name.empty() || name == "auto") return std::optional<DType>();
  if (name == "f32") return std::optional(DType::f32);
  if (name == "f16") return std::optional(DType::f16);
  if (name == "bf16") return std::optional(DType::bf16);
  if (name == "int8") return std::optional(DType::i8);
  if (name == "fp8") return std::optional(DType::f8_e4m3);
  return fail(ErrorCode::invalid_argument, "expected a KV type of auto, f32, f16, bf16, int8 or fp8, found '{}'", name);
}

Result<cuda::KvType> gpu_kv_of(const std::string& kv_dtype) {
  HP_TRY(const std::optional<DType> type, kv_dtype_of(kv_dtype));
  if (type.value_or(DType::bf16) == DType::bf16) return cuda::KvType::bf16;
  if (*type == DType::f8_e4m3) return cuda::KvType::fp8;
  return fail(ErrorCode::invalid_argument, "a GPU keeps its KV cache in bf16 or fp8, not in {} (--kv-dtype)", kv_dtype);
}

Result<int> gpu_index(const std::string& device) {
  if (device == "cuda" || device == "auto") return 0;
  const std::string_view number = std::string_view(device).substr(std::min<std::size_t>(device.size(), 5));
  int value = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (!device.starts_with("cuda:") || error != std::errc() || end != number.data() + number.size() || value < 0)
    return fail(ErrorCode::invalid_argument, "expected a device of auto, cpu, cuda or cuda:N, found '{}'", device);
  return value;
}

Result<CpuExecutorOptions> cpu_options(const LoadOptions& o) {
  HP_TRY(const kernels::Isa isa, kernels::choose_isa(o.isa));
  HP_TRY(const std::optional<DType> kv_dtype, kv_dtype_of(o.kv_dtype));
  const int threads = o.threads > 0 ? o.threads : usable_cpus();
  return CpuExecutorOptions{.isa = isa,
                            .threads = threads,
                            .kv_dtype = kv_dtype,
                            .kv_bytes = o.kv_bytes > 0 ? o.kv_bytes : kDefaultKvBytes,
                            .max_step_tokens = o.max_step_tokens,
                            .max_logit_rows = o.max_running,
                            .predict = o.predict,
                            .context = o.context};
}

namespace {

Result<std::unique_ptr<Executor>> cpu_executor_of(Checkpoint& checkpoint, const LoadOptions& o) {
  if (!o.batch_invariant)
    return fail(
        ErrorCode::invalid_argument,
        "--batch-invariant false: the CPU's kernels always keep the bits of an answer; expected a GPU, or true");
  HP_TRY(const CpuExecutorOptions options, cpu_options(o));
  return make_ranks_executor(checkpoint, options, o.tensor_parallel);
}

Result<std::unique_ptr<Executor>> executor_of(Checkpoint& checkpoint, const LoadOptions& o) {
  if (o.device == "cpu") return cpu_executor_of(checkpoint, o);
  if (o.device != "auto") {
    HP_TRY(const int gpu, gpu_index(o.device));
    return gpu_executor_of(checkpoint, o, gpu);
  }
  // Without a GPU, or for a model that it cannot run, the CPU; a GPU that fails while loading is an error.
  if (const Status supported = cuda_supports(checkpoint.config()); !supported) {
    if (cuda::load_plugin()) log::info("on the CPU: {}", supported.error().message);
    return cpu_executor_of(checkpoint, o);
  }
  if (!cuda::load_plugin()) return cpu_executor_of(checkpoint, o);
  return gpu_executor_of(checkpoint, o, 0);
}

std::vector<TokenId> stop_tokens_of(const ModelConfig& config, const Tokenizer& tokenizer) {
  std::vector<TokenId> all = tokenizer.source().end_of_generation;
  all.insert(all.end(), config.eos.begin(), config.eos.end());
  if (tokenizer.source().eos) all.push_back(*tokenizer.source().eos);
  std::ranges::sort(all);
  const auto repeated = std::ranges::unique(all);
  all.erase(repeated.begin(), repeated.end());
  std::erase_if(all, [&](TokenId t) { return t < 0 || t >= config.vocab; });
  return all;
}

std::string name_of(const fs::path& path) {
  const fs::path last = path.has_filename() ? path.filename() : path.parent_path().filename();
  return last.extension() == ".gguf" ? last.stem().string() : last.string();
}

}  // namespace

Result<NodeModel> load_model(const LoadOptions& options) {
  if (options.path.empty())
    return fail(ErrorCode::invalid_argument,
                "no model given; expected a .gguf file or a folder with config.json and *.safetensors");
  HP_TRY(Checkpoint checkpoint, Checkpoint::open(options.path));
  HP_TRY(Tokenizer tokenizer, tokenizer_of(checkpoint));
  NodeModel model;
  model.config = checkpoint.config();
  model.name = name_of(options.path);
  model.fingerprint = checkpoint.fingerprint();
  model.stop_tokens = stop_tokens_of(model.config, tokenizer);
  if (auto family = detect_chat_family(tokenizer)) {
    model.family = *family;
  } else {
    model.no_chat = family.error().message;
  }
  model.tokenizer = std::make_shared<const Tokenizer>(std::move(tokenizer));
  model.trie = std::make_shared<const TokenTrie>(model.tokenizer, model.stop_tokens);
  HP_TRY(model.executor, executor_of(checkpoint, options));
  return model;
}

Result<std::unique_ptr<Executor>> load_executor(const LoadOptions& options) {
  HP_TRY(Checkpoint checkpoint, Checkpoint::open(options.path));
  return executor_of(checkpoint, options);
}

Result<Tokenizer> load_tokenizer(const fs::path& path) {
  HP_TRY(const Checkpoint checkpoint, Checkpoint::open(path));
  return tokenizer_of(checkpoint);
}

}  // namespace hp
