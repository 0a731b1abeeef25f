#include "node/model_loader.h"

#include <algorithm>
#include <thread>

#include "arch/cpu/cpu_executor.h"
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

Result<std::optional<DType>> kv_dtype_of(const std::string& name) {
  if (name.empty() || name == "auto") return std::optional<DType>();
  if (name == "f32") return std::optional(DType::f32);
  if (name == "f16") return std::optional(DType::f16);
  if (name == "bf16") return std::optional(DType::bf16);
  return fail(ErrorCode::invalid_argument, "expected a KV type of auto, f32, f16 or bf16, found '{}'", name);
}

Result<std::unique_ptr<Executor>> executor_of(Checkpoint& checkpoint, const LoadOptions& o) {
  HP_TRY(const kernels::Isa isa, kernels::choose_isa(o.isa));
  HP_TRY(const std::optional<DType> kv_dtype, kv_dtype_of(o.kv_dtype));
  const int threads = o.threads > 0 ? o.threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return make_cpu_executor(checkpoint, {.isa = isa,
                                        .threads = threads,
                                        .kv_dtype = kv_dtype,
                                        .kv_bytes = o.kv_bytes > 0 ? o.kv_bytes : kDefaultKvBytes,
                                        .max_step_tokens = o.max_step_tokens,
                                        .max_logit_rows = o.max_running,
                                        .context = o.context});
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
  HP_TRY(model.executor, executor_of(checkpoint, options));
  return model;
}

Result<Tokenizer> load_tokenizer(const fs::path& path) {
  HP_TRY(const Checkpoint checkpoint, Checkpoint::open(path));
  return tokenizer_of(checkpoint);
}

}  // namespace hp
