// `bench`: how fast a model runs here (offline), or an address answers (online).
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "cli/bench.h"
#include "cli/command.h"
#include "cli/node_flags.h"
#include "cli/plan_engine.h"
#include "model/checkpoint.h"

namespace hp::cli {
namespace {

struct BenchOptions {
  OfflinePlan offline;
  OnlinePlan online;
  ShapePlan shape;
  bool json = false;
};

/// A line that says what runs now, rubbed out when the next begins; only on a terminal.
void show_progress(const std::string& text) {
  if (isatty(STDERR_FILENO) == 0) return;
  fmt::print(stderr, "\r\x1b[K{}", text);
  std::fflush(stderr);
}

void print_offline(const ExecutorInfo& info, const std::vector<OfflineRow>& rows) {
  fmt::print("{}\n{:<16} {:>12} {:>12} {:>12}   tokens/s\n", info.device, "test", "median", "least", "most");
  for (const OfflineRow& r : rows) {
    fmt::print("{:<16} {:>12.1f} {:>12.1f} {:>12.1f}\n", r.test, percentile(r.tokens_per_second, 0.5),
               std::ranges::min(r.tokens_per_second), std::ranges::max(r.tokens_per_second));
  }
}

/// The type that most of the layers' bytes have, under the planner's name.
std::string format_of(const Checkpoint& checkpoint) {
  std::map<std::string, std::size_t> bytes;
  for (const NamedTensor& t : checkpoint.tensors()) {
    if (t.name.starts_with("blk.")) bytes[std::string(traits(t.view.dtype).name)] += t.view.bytes();
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& entry) { return entry.second; });
  if (most == bytes.end()) return "bf16";
  if (most->first == "q4_k" || most->first == "q5_0") return "q4_k_m";  // q5_0: rows that 256 does not divide
  return most->first == "f8_e4m3" ? "fp8" : most->first;
}

/// By these the planner knows which model of its catalog was measured (`plan accuracy --measurements`).
void write_shape(JsonWriter& w, const std::filesystem::path& path, const ExecutorInfo& info,
                 const std::string& gpu_weights) {
  const Result<Checkpoint> checkpoint = Checkpoint::open(path);
  if (!checkpoint) return;
  const ModelConfig& c = checkpoint->config();
  w.key("shape").begin_object().member("layers", c.layers).member("hidden", c.hidden).member("vocab", c.vocab);
  w.end_object().member("format", info.device.starts_with("cpu") ? format_of(*checkpoint) : gpu_weights);
}

void write_rows(JsonWriter& w, const std::vector<OfflineRow>& rows) {
  w.key("rows").begin_array();
  for (const OfflineRow& r : rows) {
    w.begin_object()
        .member("test", r.prefill ? "prefill" : "decode")
        .member(r.prefill ? "tokens" : "sequences", r.size);
    w.member("context", r.context).member("tokens_per_second", percentile(r.tokens_per_second, 0.5));
    w.key("samples").begin_array();
    for (const double v : r.tokens_per_second) w.value(v);
    w.end_array().end_object();
  }
  w.end_array();
}

void print_shape_json(const ExecutorInfo& info, const ShapePlan& shape, const std::vector<OfflineRow>& rows) {
  std::string out;
  JsonWriter w(out);
  w.begin_object().member("engine", "homeport").member("device", info.device).member("model", shape.name);
  w.member("weights", "random").member("format", shape.weights);
  write_rows(w, rows);
  w.end_object();
  fmt::print("{}\n", out);
}

void print_offline_json(const ExecutorInfo& info, const std::filesystem::path& path, const std::string& gpu_weights,
                        const std::vector<OfflineRow>& rows) {
  const std::string model = path.filename().string();
  std::string out;
  JsonWriter w(out);
  w.begin_object().member("engine", "homeport").member("device", info.device).member("model", model);
  w.member("weights", info.weights).key("memory");
  write_memory(w, info.memory);
  write_shape(w, path, info, gpu_weights);
  write_rows(w, rows);
  w.end_object();
  fmt::print("{}\n", out);
}

void print_online(const std::vector<OnlineRow>& rows) {
  fmt::print("{:>7} {:>8} {:>6} {:>10}   {:>26}   {:>26}\n", "", "", "", "", "first token p50/p90/p99 ms",
             "between tokens p50/p99 ms");
  fmt::print("{:>7} {:>8} {:>6} {:>10}\n", "streams", "finished", "failed", "tokens/s");
  for (const OnlineRow& r : rows) {
    fmt::print("{:>7} {:>8} {:>6} {:>10.1f}   {:>8.1f} {:>8.1f} {:>8.1f}   {:>12.2f} {:>12.2f}\n", r.streams,
               r.finished, r.failed, static_cast<double>(r.answer_tokens) / r.seconds,
               1e3 * percentile(r.first_token_s, 0.5), 1e3 * percentile(r.first_token_s, 0.9),
               1e3 * percentile(r.first_token_s, 0.99), 1e3 * percentile(r.between_tokens_s, 0.5),
               1e3 * percentile(r.between_tokens_s, 0.99));
    if (!r.first_error.empty()) fmt::print("        first failure: {}\n", r.first_error);
  }
}

void write_times(JsonWriter& w, std::string_view name, const std::vector<double>& seconds) {
  if (seconds.empty()) return;
  w.key(name).begin_object();
  for (const auto& [label, q] : {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}})
    w.member(label, 1e3 * percentile(seconds, q));
  w.end_object();
}

void print_online_json(const OnlinePlan& plan, const std::vector<OnlineRow>& rows) {
  std::string out;
  JsonWriter w(out);
  w.begin_object()
      .member("url", plan.url)
      .member("prompt_tokens", plan.prompt_tokens)
      .member("answer_tokens", plan.answer_tokens);
  w.key("rows").begin_array();
  for (const OnlineRow& r : rows) {
    w.begin_object().member("streams", r.streams).member("finished", r.finished).member("failed", r.failed);
    w.member("seconds", r.seconds).member("tokens_per_second", static_cast<double>(r.answer_tokens) / r.seconds);
    write_times(w, "first_token_ms", r.first_token_s);
    write_times(w, "between_tokens_ms", r.between_tokens_s);
    w.end_object();
  }
  w.end_array().end_object();
  fmt::print("{}\n", out);
}

Result<int> run_online(const BenchOptions& o) {
  std::vector<OnlineRow> rows;
  for (const std::int64_t streams : o.online.streams) {
    show_progress(fmt::format("{} streams …", streams));
    HP_TRY(OnlineRow row, bench_online(o.online, streams));
    rows.push_back(std::move(row));
  }
  show_progress("");
  if (o.json) {
    print_online_json(o.online, rows);
  } else {
    print_online(rows);
  }
  const bool all = std::ranges::all_of(rows, [](const OnlineRow& r) { return r.failed == 0; });
  return all ? kExitOk : kExitFailure;
}

Result<int> run_shape(const BenchOptions& o, const Config& config) {
  show_progress(fmt::format("making {} with random weights …", o.shape.name));
  ShapePlan shape = o.shape;
  shape.batch_invariant = config.boolean("engine.batch_invariant");
  HP_TRY(const std::unique_ptr<Executor> executor,
         random_executor(shape, config.text("engine.device"), config.text("engine.kv_dtype"),
                         static_cast<std::size_t>(config.integer("engine.kv_mib")) << 20,
                         static_cast<std::int32_t>(std::ranges::max(o.offline.batches))));
  show_progress("measuring …");
  HP_TRY(const std::vector<OfflineRow> rows, bench_offline(*executor, o.offline));
  show_progress("");
  if (o.json) {
    print_shape_json(executor->info(), o.shape, rows);
  } else {
    print_offline(executor->info(), rows);
  }
  return kExitOk;
}

Result<int> run_offline(const BenchOptions& o, const Config& config) {
  if (!o.shape.name.empty()) return run_shape(o, config);
  HP_TRY(LoadOptions load, load_options(config));
  load.max_running = std::max(load.max_running, static_cast<std::int32_t>(std::ranges::max(o.offline.batches)));
  show_progress(fmt::format("loading {} …", load.path.filename().string()));
  HP_TRY(const std::unique_ptr<Executor> executor, load_executor(load));
  show_progress("measuring …");
  HP_TRY(const std::vector<OfflineRow> rows, bench_offline(*executor, o.offline));
  show_progress("");
  if (o.json) {
    print_offline_json(executor->info(), load.path, load.gpu_weights, rows);
  } else {
    print_offline(executor->info(), rows);
  }
  return kExitOk;
}

}  // namespace

Command bench_command() {
  auto options = std::make_shared<BenchOptions>();
  return {
      .name = "bench",
      .summary = "how fast a model runs here, or an address answers",
      .details =
          "Without --url the model runs alone in this process: prefill of prompts, and decode of sequences together\n"
          "after a context; medians of repeats. With --url, concurrent streams of /v1/completions against any\n"
          "OpenAI-compatible server that takes prompts of token ids.",
      .examples =
          "  homeport bench --model model.gguf --prefill 512,2048 --batch 1,16\n"
          "  homeport bench --shape deepseek-67b --random-weights fp8 --batch 1,64,128\n"
          "  homeport bench --url http://127.0.0.1:8000 --streams 1,4,16 --json",
      .sections = {"model", "engine"},
      .declare =
          [options](Arguments& a) {
            a.integers("--prefill", options->offline.prefills, "Prompt tokens.", 1, 1'000'000);
            a.integers("--batch", options->offline.batches, "Sequences decoded together.", 1, 4096);
            a.integer("--depth", options->offline.context, "Tokens of context before decoding.", 1, 1'000'000);
            a.integer("--steps", options->offline.steps, "Decode steps of a repeat.", 1, 100'000);
            a.integer("--repeat", options->offline.repeats, "Repeats.", 1, 1000);
            a.text(
                "--shape", options->shape.name,
                "A model's shape without its files, weights made on the GPU: an id of `plan catalog`, such as v2-lite.",
                "NAME");
            a.text("--random-weights", options->shape.weights, "Their type: bf16, fp8, int8 or int4.", "TYPE");
            a.integer("--layers", options->shape.layers, "Only the first so many layers; 0: all.", 0, 1000);
            a.text("--url", options->online.url, "Measure this server.", "URL");
            a.text("--served-name", options->online.model, "Model name in the requests.", "NAME");
            a.text("--api-key", options->online.api_key, "Bearer key.", "KEY");
            a.integers("--streams", options->online.streams, "Concurrent streams.", 1, 100'000);
            a.integer("--prompt-tokens", options->online.prompt_tokens, "Tokens of every prompt.", 1, 1'000'000);
            a.integer("--answer-tokens", options->online.answer_tokens, "Tokens of every answer.", 1, 1'000'000);
            a.integer("--requests", options->online.requests, "Requests per number of streams; 0: two for each stream.",
                      0, 10'000'000);
            a.number("--rate", options->online.rate, "Requests per second at random times instead; 0: off.", 0, 1e6);
            a.integer("--seed", options->online.seed, "Other prompts and times; the same seed gives the same ones.", 0,
                      1'000'000'000);
            a.toggle("--json", options->json, "Print JSON.");
          },
      .run = [options](const Invocation& in) -> Result<int> {
        return options->online.url.empty() ? run_offline(*options, in.config) : run_online(*options);
      },
  };
}

}  // namespace hp::cli
