// `plan memory`: what the CPU engine would allocate for a model, to the byte, without loading it.
#include <filesystem>
#include <map>
#include <memory>

#include "arch/cpu/engine_memory.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/node_flags.h"
#include "cli/plan_common.h"
#include "cli/plan_engine.h"
#include "model/footprint.h"
#include "node/model_loader.h"
#include "planner/weight_types.h"

namespace hp::cli {
namespace {

struct MemoryFlags {
  std::string format = "bf16";
  bool json = false;
};

struct Predicted {
  std::string model;
  EngineMemory memory;
  std::size_t kv_per_token = 0, block_bytes = 0, kv_tokens = 0;
};

Predicted predicted(std::string name, const ModelConfig& config, const EngineMemory& memory, const LoadOptions& load,
                    const CpuExecutorOptions& options) {
  const DType dtype = options.kv_dtype.value_or(options.isa == kernels::Isa::ref ? DType::f32 : DType::f16);
  const std::int32_t layers = load.predict && config.mtp_layers > 0 ? 1 : 0;
  // Of all ranks; `config` is one's.
  const std::size_t block = kv_bytes_per_block(config, {.dtype = dtype, .prediction_layers = layers}) *
                            static_cast<std::size_t>(load.tensor_parallel);
  return {.model = std::move(name),
          .memory = memory,
          .kv_per_token = block / 16,
          .block_bytes = block,
          .kv_tokens = memory.kv / block * 16};
}

Result<Predicted> predict_file(const LoadOptions& load, const CpuExecutorOptions& options) {
  HP_TRY(const Checkpoint checkpoint, Checkpoint::open(load.path));
  HP_TRY(const EngineMemory memory, ranks_engine_memory(types_of(checkpoint), options, load.tensor_parallel));
  HP_TRY(const ShardPlan plan, ShardPlan::make(checkpoint, {.rank = 0, .world = load.tensor_parallel}));
  return predicted(load.path.filename().string(), plan.config(), memory, load, options);
}

Result<Predicted> predict_shape(const std::string& name, const std::string& format, const LoadOptions& load,
                                const CpuExecutorOptions& options) {
  if (load.tensor_parallel > 1)
    return fail(ErrorCode::unsupported, "--tensor-parallel: a rank's memory is foretold from a file, not from a shape");
  HP_TRY(const ModelConfig config, model_from(name));
  const planner::WeightFormat* const found = planner::find_format(format);
  if (found == nullptr)
    return fail(ErrorCode::invalid_argument, "format: expected one of {}, found '{}'", planner::format_names(), format);
  HP_TRY(const EngineMemory memory, engine_memory_of(config, *found, options));
  return predicted(name + " " + format, config, memory, load, options);
}

void print(const Predicted& p, bool as_json) {
  if (as_json) {
    std::string out;
    JsonWriter json(out);
    json.begin_object().member("model", p.model).key("memory");
    write_memory(json, p.memory);
    json.member("kv_bytes_per_token", p.kv_per_token)
        .member("kv_block_bytes", p.block_bytes)
        .member("kv_tokens", p.kv_tokens)
        .end_object();
    fmt::print("{}\n", out);
    return;
  }
  fmt::print("{}: what the CPU engine allocates, in bytes\n", p.model);
  for (const auto& [part, bytes] : {std::pair{"weights", p.memory.weights},
                                    {"position tables", p.memory.tables},
                                    {"step", p.memory.step},
                                    {"KV cache", p.memory.kv},
                                    {"total", p.memory.total()}})
    fmt::print("  {:<16} {:>16}  {}\n", part, bytes, bytes_text(bytes));
  fmt::print("KV: {} bytes per token, room for {} tokens\n", p.kv_per_token, p.kv_tokens);
}

Result<int> run(const MemoryFlags& flags, const Config& config) {
  const std::string& given = config.text("model.path");
  std::error_code error;
  const bool shape = !given.empty() && (given.ends_with(".json") || !std::filesystem::exists(given, error));
  Result<LoadOptions> load = shape ? Result<LoadOptions>(engine_options(config)) : load_options(config);
  if (!load) return fail(std::move(load).error());
  HP_TRY(const CpuExecutorOptions options, cpu_options(*load));
  HP_TRY(const Predicted p, shape ? predict_shape(given, flags.format, *load, options) : predict_file(*load, options));
  print(p, flags.json);
  return kExitOk;
}

}  // namespace

void write_memory(JsonWriter& json, const EngineMemory& memory) {
  json.begin_object()
      .member("weights", memory.weights)
      .member("tables", memory.tables)
      .member("step", memory.step)
      .member("kv", memory.kv)
      .member("total", memory.total())
      .end_object();
}

Result<EngineMemory> engine_memory_of(const ModelConfig& shape, const planner::WeightFormat& format,
                                      const CpuExecutorOptions& options) {
  // fp8 checkpoints are Hugging Face folders, the others GGUF files.
  const bool fp8 = format.name == "fp8";
  ModelConfig config = shape;
  if (fp8 && config.fp8_block_columns == 0) config.fp8_block_rows = config.fp8_block_columns = 128;
  std::map<std::string, DType, std::less<>> types;
  const TensorForms forms{.split_kv_b = !fp8, .merged_experts = !fp8};
  for (const TensorSpec& t : tensor_table(config, forms)) types[t.name] = planner::tensor_type(format, config, t);
  return cpu_engine_memory({.config = config,
                            .forms = forms,
                            .type_of = [&types](std::string_view name) { return types.find(name)->second; },
                            .block_scales = fp8},
                           options);
}

Command plan_memory_command() {
  auto flags = std::make_shared<MemoryFlags>();
  return {.name = "plan memory",
          .summary = "What the CPU engine would allocate for a model, to the byte, without loading it.",
          .details =
              "--model is a file, a folder, a config.json or a name of `plan catalog`; the engine's flags are those of "
              "`serve`. `bench --json` reports what was allocated.",
          .examples =
              "  homeport plan memory --model model.gguf\n"
              "  homeport plan memory --model deepseek-v2-lite --format q4_k_m --context 8192 --kv-mib 4096 --json",
          .sections = {"model", "engine"},
          .declare =
              [flags](Arguments& a) {
                a.text("--format", flags->format, "Weight format, when --model is a name or a config.json.", "NAME");
                a.toggle("--json", flags->json, "Print JSON.");
              },
          .run = [flags](const Invocation& in) { return run(*flags, in.config); }};
}

}  // namespace hp::cli
