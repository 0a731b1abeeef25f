// `quantize`: a smaller copy of a model, with a report of what it cost.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>

#include "arch/cpu/calibration.h"
#include "base/cpu_count.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/model_quality.h"
#include "model/quantize.h"
#include "node/model_loader.h"

namespace hp::cli {
namespace {

constexpr int kBarWidth = 30;

struct Flags {
  std::string input, output, recipe = "fp8", embeddings = "auto", text, tokens, calibrate, calibrate_tokens,
                             kv_dtype = "auto";
  std::int64_t group = 0, threads = 0, shard_mb = 1024, max_tokens = 8192;
  bool json = false;
};

/// A bar on standard error, only on a terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label) : label_(std::move(label)), shown_(::isatty(STDERR_FILENO) != 0) {}
  ~ProgressBar() {
    if (shown_ && percent_ >= 0) std::fputs("\n", stderr);
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void operator()(std::size_t done, std::size_t total) {
    const int percent =
        total == 0 ? 100 : static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total));
    if (!shown_ || percent == percent_) return;
    percent_ = percent;
    const auto full = static_cast<std::size_t>(percent * kBarWidth / 100);
    const std::string bar = std::string(full, '#') + std::string(kBarWidth - full, '.');
    fmt::print(stderr, "\r{} [{}] {:3} %", label_, bar, percent);
    std::fflush(stderr);
  }

 private:
  std::string label_;
  bool shown_;
  int percent_ = -1;
};

struct Quality {
  std::size_t tokens = 0;
  double perplexity_before = 0.0, perplexity_after = 0.0, top1_agreement = 0.0;
};

/// Windows of a text file, or of a file of token ids where no text is named.
Result<Windows> windows_of(const Flags& f, const std::string& text_path, const std::string& tokens_path) {
  std::vector<TokenId> tokens;
  const std::string& path = text_path.empty() ? tokens_path : text_path;
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::not_found, "cannot read '{}'", path);
  if (text_path.empty()) {
    for (TokenId id = 0; in >> id;) tokens.push_back(id);
  } else {
    std::ostringstream text;
    text << in.rdbuf();
    HP_TRY(const Tokenizer tokenizer, load_tokenizer(f.input));
    tokenizer.encode_text(text.str(), tokens);
  }
  if (tokens.size() > static_cast<std::size_t>(f.max_tokens)) tokens.resize(static_cast<std::size_t>(f.max_tokens));
  if (tokens.size() < 2)
    return fail(ErrorCode::invalid_argument, "'{}' holds {} tokens: at least 2 are needed", path, tokens.size());
  return cut_windows(tokens);
}

Result<Quality> measure(const Flags& f, const Windows& windows, int threads) {
  Predictions before, after;
  {
    ProgressBar bar("original ");
    HP_TRY(before, predict(f.input, std::nullopt, windows, threads, std::ref(bar)));
  }
  HP_TRY(const std::optional<DType> kv, kv_dtype_of(f.kv_dtype));
  ProgressBar bar("quantized");
  HP_TRY(after, predict(f.output, kv, windows, threads, std::ref(bar)));
  return Quality{.tokens = before.best.size(),
                 .perplexity_before = before.perplexity(),
                 .perplexity_after = after.perplexity(),
                 .top1_agreement = agreement(before, after)};
}

/// Has the run round with a text, and be taken up only with the same one.
Status calibrate_with(const Windows& windows, const Flags& f, int threads, QuantizeOptions& options) {
  HP_TRY(const kernels::Isa isa, kernels::choose_isa("auto"));
  std::string all;
  for (const auto& w : windows) {
    all.append(reinterpret_cast<const char*>(w.data()), w.size() * sizeof(TokenId));
    all += '|';
  }
  const Hash128 h = hash128(std::as_bytes(std::span(all)));
  options.calibration = fmt::format("{:016x}{:016x} {}", h.high, h.low, kernels::to_string(isa));
  options.calibrate = [&windows, input = f.input, isa, threads](const QuantizePlan& plan,
                                                                const RoundedStore& store) -> Status {
    HP_TRY(const Checkpoint checkpoint, Checkpoint::open(input));
    ProgressBar bar("calibrate");
    return calibrate(checkpoint, plan, windows, store, {.isa = isa, .threads = threads, .progress = std::ref(bar)});
  };
  return {};
}

double relative_error(const QuantError& e) {
  return e.size > 0.0 ? std::sqrt(e.error / e.size) : 0.0;
}

double share(std::size_t part, std::size_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string as_text(const Flags& f, const QuantizeReport& r, const std::optional<Quality>& quality) {
  std::string out =
      fmt::format("{} as {}: {} before, {} after, {:.1f} % of the size\n\n", f.output, f.recipe,
                  bytes_text(r.bytes_before), bytes_text(r.bytes_after), share(r.bytes_after, r.bytes_before));
  out += fmt::format("  {:<18} {:<10} {:>8} {:>12} {:>12} {:>10}\n", "tensors", "stored as", "count", "before", "after",
                     "error");
  for (const QuantizedClass& c : r.classes) {
    out += fmt::format("  {:<18} {:<10} {:>8} {:>12} {:>12} {:>10}\n", c.name, to_string(c.storage), c.tensors,
                       bytes_text(c.bytes_before), bytes_text(c.bytes_after),
                       c.storage == WeightStorage::copy ? "-" : fmt::format("{:.2f} %", 100 * relative_error(c.error)));
  }
  out += "  (error: root of the mean squared error over that of the weights)\n";
  if (r.group > 0) out += fmt::format("  int4 in groups of {}\n", r.group);
  out += r.calibrated > 0 ? fmt::format("  {} tensors rounded by the calibration text\n", r.calibrated)
                          : std::string("  all rounded to nearest (--calibrate FILE loses less)\n");
  if (r.resumed_shards > 0) out += fmt::format("  {} of {} files were there already\n", r.resumed_shards, r.shards);
  for (const std::string& note : r.notes) out += "  note: " + note + "\n";
  if (!quality) return out + "\nNo --text was given: perplexity and agreement are not measured.\n";
  out += fmt::format(
      "\nOn {} tokens: perplexity {:.4f} before, {:.4f} after{} ({:+.2f} %), the same next token {:.2f} %\n",
      quality->tokens, quality->perplexity_before, quality->perplexity_after,
      f.kv_dtype == "auto" ? "" : fmt::format(" with a KV cache in {}", f.kv_dtype),
      100 * (quality->perplexity_after / quality->perplexity_before - 1), 100 * quality->top1_agreement);
  return out;
}

std::string as_json(const Flags& f, const QuantizeReport& r, const std::optional<Quality>& quality) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().member("output", f.output).member("recipe", f.recipe).member("group", r.group);
  w.member("bytes_before", std::uint64_t{r.bytes_before}).member("bytes_after", std::uint64_t{r.bytes_after});
  w.member("tensors_calibrated", std::uint64_t{r.calibrated});
  w.member("files", std::uint64_t{r.shards}).member("files_resumed", std::uint64_t{r.resumed_shards});
  w.key("classes").begin_array();
  for (const QuantizedClass& c : r.classes) {
    w.begin_object().member("name", c.name).member("storage", to_string(c.storage));
    w.member("tensors", std::uint64_t{c.tensors}).member("parameters", std::uint64_t{c.parameters});
    w.member("bytes_before", std::uint64_t{c.bytes_before}).member("bytes_after", std::uint64_t{c.bytes_after});
    w.member("relative_error", relative_error(c.error)).end_object();
  }
  w.end_array().key("notes").begin_array();
  for (const std::string& note : r.notes) w.value(note);
  w.end_array();
  if (quality) {
    w.key("quality").begin_object().member("tokens", std::uint64_t{quality->tokens});
    w.member("perplexity_before", quality->perplexity_before).member("perplexity_after", quality->perplexity_after);
    w.member("kv_dtype", f.kv_dtype).member("top1_agreement", quality->top1_agreement).end_object();
  }
  w.end_object();
  return out + "\n";
}

Result<int> run(const Flags& f) {
  const auto recipe = quant_recipe_from_name(f.recipe);
  if (!recipe) return fail(ErrorCode::invalid_argument, "--to '{}': expected fp8, int8, int4 or mixed", f.recipe);
  if (f.embeddings != "auto" && f.embeddings != "keep" && f.embeddings != "fp8")
    return fail(ErrorCode::invalid_argument, "--embeddings '{}': expected auto, keep or fp8", f.embeddings);
  const int threads = f.threads > 0 ? static_cast<int>(f.threads) : usable_cpus();
  HP_TRY_VOID(kv_dtype_of(f.kv_dtype));
  std::optional<Windows> windows;  // before hours of work: a wrong text file should fail now
  if (!f.text.empty() || !f.tokens.empty()) {
    HP_TRY(windows, windows_of(f, f.text, f.tokens));
  }
  QuantizeOptions options{.input = f.input,
                          .output = f.output,
                          .choices = {.recipe = *recipe,
                                      .group = f.group,
                                      .embeddings = {},
                                      .shard_bytes = static_cast<std::size_t>(f.shard_mb) << 20U},
                          .progress = {}};
  Windows calibration;
  if (!f.calibrate.empty() || !f.calibrate_tokens.empty()) {
    HP_TRY(calibration, windows_of(f, f.calibrate, f.calibrate_tokens));
    HP_TRY_VOID(calibrate_with(calibration, f, threads, options));
  }
  if (f.embeddings != "auto") options.choices.embeddings = f.embeddings == "fp8";
  QuantizeReport report;
  {
    ParallelTeam team(threads);
    ProgressBar bar("quantize ");
    options.progress = std::ref(bar);
    HP_TRY(report, quantize_checkpoint(options, team));
  }
  std::optional<Quality> quality;
  if (windows) {
    HP_TRY(quality, measure(f, *windows, threads));
  }
  std::fputs((f.json ? as_json(f, report, quality) : as_text(f, report, quality)).c_str(), stdout);
  return kExitOk;
}

}  // namespace

Command quantize_command() {
  auto flags = std::make_shared<Flags>();
  return {
      .name = "quantize",
      .summary = "write a smaller copy of a model, with a report of what it cost",
      .details =
          "Reads a Hugging Face folder in bf16, f16 or f32 and writes a new folder; the input is never changed. A run "
          "that was cut off goes on where it stopped when the same command is given again. Recipes: fp8 (blocks of "
          "128 x 128, DeepSeek's layout), int8 and int4 (compressed-tensors), mixed (feed-forward and experts int4, "
          "attention fp8).",
      .examples =
          "  homeport quantize DeepSeek-V2-Lite V2-Lite-fp8\n"
          "  homeport quantize DeepSeek-V2-Lite V2-Lite-mixed --to mixed --calibrate book.txt --text sample.txt\n"
          "  homeport quantize model model-int4 --to int4 --group 64 --json",
      .declare =
          [flags](Arguments& a) {
            a.positional("input", flags->input, "Folder with config.json and *.safetensors.", true);
            a.positional("output", flags->output, "New folder.", true);
            a.text("--to", flags->recipe, "fp8, int8, int4 or mixed.", "RECIPE");
            a.integer("--group", flags->group, "int4: weights per scale, 32, 64 or 128; 0: the largest that fits.", 0,
                      128);
            a.text(
                "--embeddings", flags->embeddings,
                "fp8 and mixed: embedding and head in fp8 too: auto (when more than a tenth of the weights, or mixed "
                "would miss 40 % of the size), keep or fp8.",
                "CHOICE");
            a.text("--text", flags->text, "Measure perplexity and agreement with the original on this file.", "FILE");
            a.text("--tokens", flags->tokens, "The same with token ids, for a model without a tokenizer.", "FILE");
            a.text("--kv-dtype", flags->kv_dtype, "Measure the copy with its KV cache in this type: fp8, int8, ….",
                   "TYPE");
            a.text("--calibrate", flags->calibrate,
                   "Round so that the model stays the same on this text; use another one than for --text.", "FILE");
            a.text("--calibrate-tokens", flags->calibrate_tokens, "The same with token ids.", "FILE");
            a.integer("--max-tokens", flags->max_tokens, "Tokens of each text that are used.", 2, 10'000'000);
            a.integer("--shard-mb", flags->shard_mb, "Size of the output's files.", 1, 1 << 20);
            a.integer("--threads", flags->threads, "Threads; 0: as many as this process may run.", 0, 1024);
            a.toggle("--json", flags->json, "Print the report as JSON.");
          },
      .run = [flags](const Invocation&) { return run(*flags); },
  };
}

}  // namespace hp::cli
