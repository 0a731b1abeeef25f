// `plan size`, `report`, `autoscale`, `deploy`, `catalog`: machines, and the files that run them.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/command.h"
#include "cli/plan_common.h"
#include "model/footprint.h"
#include "ops/rule.h"
#include "planner/accuracy.h"
#include "planner/autoscale_sim.h"
#include "planner/deploy.h"
#include "planner/report.h"

namespace hp::cli {
namespace {

namespace fs = std::filesystem;

struct SizeCommand {
  PlanOutput output;
  SizeFlags size;
};

struct ReportCommand : SizeCommand {
  double sensitivity = 3, cost = 0.5, peak_to_mean = 3;
  planner::Money money;
};

struct DeployCommand : SizeCommand {
  std::string target, folder, tier = "basic";
  planner::DeployOptions options;
};

struct AutoscaleCommand {
  PlanOutput output;
  double peak = 12, slo = 0.99, seed = 1, step = 60;
  std::string curve;
  planner::SimulationInputs inputs;
};

Result<int> run_report(ReportCommand& c) {
  HP_TRY(const planner::Language language, language_of(c.output));
  planner::ReportRequest request{.sensitivity = c.sensitivity, .cost_weight = c.cost, .money = c.money};
  request.tco.peak_to_mean = c.peak_to_mean;
  HP_TRY(const Catalogs catalogs, load_catalogs(c.size.files, &request.tco));
  HP_TRY_VOID(complete(c.size, catalogs));
  HP_TRY_VOID(validate(planner::FeasibilityInputs{.workload = 0, .sensitivity = c.sensitivity, .cost = c.cost}));
  HP_TRY_VOID(validate(request.tco));
  request.size = c.size.request;
  const planner::SizeResult result = size_for(request.size, catalogs.accelerators, catalogs.calibrations);
  return print_answer(answer_report(request, result, catalogs.accelerators, catalogs.calibrations, language), c.output);
}

void print_deployed(const DeployCommand& c, const planner::Configuration& chosen, const fs::path& folder,
                    const std::vector<planner::DeployFile>& files) {
  if (!c.output.json) {
    for (const planner::DeployFile& file : files) std::printf("%s\n", (folder / file.path).c_str());
    return;
  }
  std::string text;
  JsonWriter json(text);
  json.begin_object().member("target", c.target).member("model", c.size.request.model_name);
  json.member("accelerator", chosen.device.id).member("format", chosen.format).member("devices", chosen.devices);
  json.key("files").begin_array();
  for (const planner::DeployFile& file : files) json.value((folder / file.path).string());
  json.end_array().end_object();
  std::printf("%s\n", text.c_str());
}

Result<int> run_deploy(DeployCommand& c) {
  const auto target = planner::deploy_target_from(c.target);
  if (!target)
    return fail(ErrorCode::invalid_argument, "--target: expected kubernetes, systemd or compose, found '{}'", c.target);
  if (c.tier != "basic" && c.tier != "performance")
    return fail(ErrorCode::invalid_argument, "--tier: expected basic or performance, found '{}'", c.tier);
  HP_TRY(const Catalogs catalogs, load_catalogs(c.size.files, nullptr));
  c.size.request.max_tensor_parallel = 1;
  HP_TRY_VOID(complete(c.size, catalogs));
  const planner::SizeResult result = size_for(c.size.request, catalogs.accelerators, catalogs.calibrations);
  const std::vector<planner::Configuration>& tier = c.tier == "basic" ? result.basic : result.performance;
  const auto chosen = std::ranges::find_if(tier, [](const planner::Configuration& x) { return x.own_nodes; });
  if (chosen == tier.end())
    return fail(ErrorCode::unsupported,
                "no machine runs {} within these targets on one device per node; the nearest that would work: --format "
                "int4, a distilled "
                "model, or softer --ttft-p99-ms and --itl-p99-ms (homeport plan size shows what misses what)",
                c.size.request.model_name);
  HP_TRY(const std::vector<ops::Rule> rules, ops::load_rules());
  c.options.rules_yaml = ops::prometheus_rules(rules);
  HP_TRY(const std::vector<planner::DeployFile> files, deploy_files(*target, c.size.request, *chosen, c.options));
  const fs::path folder = c.folder.empty() ? fs::path("deploy-" + c.target) : fs::path(c.folder);
  std::error_code error;
  fs::create_directories(folder, error);
  for (const planner::DeployFile& file : files) {
    std::ofstream out(folder / file.path, std::ios::binary);
    out << file.content;
    if (!out.flush())
      return fail(ErrorCode::io_error, "--output: cannot write {}; is the folder writable?",
                  (folder / file.path).string());
  }
  print_deployed(c, *chosen, folder, files);
  return 0;
}

Result<int> run_autoscale(AutoscaleCommand& c) {
  HP_TRY(const planner::Language language, language_of(c.output));
  std::vector<planner::LoadCurve> curves = planner::shipped_curves(c.peak);
  if (!c.curve.empty()) {
    HP_TRY(const std::string text, read_text_file(c.curve));
    HP_TRY(planner::LoadCurve own, planner::curve_from_csv(text, c.curve, c.step));
    if (own.peak() > 1000 || own.step_s * static_cast<double>(own.requests_per_second.size()) > 8 * 86400)
      return fail(ErrorCode::invalid_argument,
                  "--curve: expected at most 1000 requests/s over at most 8 days, found {:g} over {:g} days",
                  own.peak(), own.step_s * static_cast<double>(own.requests_per_second.size()) / 86400);
    curves = {std::move(own)};
  }
  c.inputs.seed = static_cast<std::uint64_t>(c.seed);
  return print_answer(answer_autoscale(compare_scalers(curves, c.inputs, c.slo), c.inputs, c.slo, language), c.output);
}

planner::Answer catalog_answer(const std::vector<planner::Accelerator>& catalog) {
  planner::Table machines{.title = "Accelerators and CPU servers (GB, GB/s, dense TFLOP/s, W, CNY)",
                          .columns = {"id", "memory", "bandwidth", "bf16", "fp8", "int8", "link", "power", "price",
                                      "own kernels", "source"}};
  std::string json;
  JsonWriter out(json);
  out.begin_object().key("accelerators").begin_array();
  for (const planner::Accelerator& a : catalog) {
    machines.rows.push_back({a.id, planner::significant(a.memory), planner::significant(a.bandwidth, 4),
                             planner::significant(a.bf16), planner::significant(a.fp8), planner::significant(a.int8),
                             planner::significant(a.link), planner::significant(a.power, 4), planner::grouped(a.price),
                             a.homeport ? "yes" : "-", a.source});
    out.begin_object()
        .member("id", a.id)
        .member("name", a.name)
        .member("memory_gb", a.memory)
        .member("bandwidth_gbs", a.bandwidth);
    out.member("bf16", a.bf16)
        .member("fp8", a.fp8)
        .member("int8", a.int8)
        .member("link_gbs", a.link)
        .member("power_w", a.power);
    out.member("price_cny", a.price).member("homeport", a.homeport).member("source", a.source).end_object();
  }
  planner::Table models{.title = "Models",
                        .columns = {"id", "parameters, 10^9", "active, 10^9", "context", "KV bytes/token (16 bit)"}};
  out.end_array().key("models").begin_array();
  for (const std::string& id : planner::catalog_model_ids()) {
    const ModelConfig config = *planner::catalog_model(id);
    const planner::ModelCosts costs = planner::costs_of(config);
    const double kv = static_cast<double>(kv_bytes_per_token(config, DType::f16));
    models.rows.push_back({id, planner::significant(costs.total() / 1e9), planner::significant(costs.active() / 1e9),
                           planner::grouped(config.context), planner::grouped(kv)});
    out.begin_object().member("id", id).member("parameters", costs.total()).member("active", costs.active());
    out.member("context", static_cast<std::int64_t>(config.context)).member("kv_bytes_per_token", kv).end_object();
  }
  out.end_array().end_object();
  return {.json = std::move(json),
          .document = {.title = "What the planner knows",
                       .sections = {{.tables = {std::move(models), std::move(machines)}}}}};
}

}  // namespace

Command plan_size_command() {
  auto c = std::make_shared<SizeCommand>();
  return {
      .name = "plan size",
      .summary = "Which machines and how many, for a model, a load and latency targets; two tiers, with predictions.",
      .details =
          "Roofline per operation at measured efficiencies, M/G/1 queue for the 99th percentile, N+1. The answer "
          "prints its own errors.",
      .examples =
          "  homeport plan size --model deepseek-llm-67b --requests-per-second 2\n"
          "  homeport plan size --model deepseek-r1 --accelerator h200,h20 --ttft-p99-ms 3000 --json\n"
          "  homeport plan size --model ./config.json --access-log access.log --format fp8",
      .declare =
          [c](Arguments& a) {
            declare_size(a, c->size);
            declare_output(a, c->output);
          },
      .run = [c](const Invocation&) -> Result<int> {
        HP_TRY(const planner::Language language, language_of(c->output));
        HP_TRY(const Catalogs catalogs, load_catalogs(c->size.files, nullptr));
        HP_TRY_VOID(complete(c->size, catalogs));
        const planner::SizeResult result = size_for(c->size.request, catalogs.accelerators, catalogs.calibrations);
        return print_answer(
            answer_size(c->size.request, result, catalogs.accelerators, catalogs.calibrations, language), c->output);
      }};
}

Command plan_report_command() {
  auto c = std::make_shared<ReportCommand>();
  return {.name = "plan report",
          .summary = "One page for a decision: should we, with what, for how much.",
          .details = "Joins feasibility, size and tco; --html writes a self-contained page with charts.",
          .examples =
              "  homeport plan report --model deepseek-r1-distill-llama-70b --requests-per-second 5 --sensitivity 4 "
              "--html report.html\n"
              "  homeport plan report --requests-per-second 2 --lang zh --json",
          .declare =
              [c](Arguments& a) {
                a.number("--sensitivity", c->sensitivity,
                         "Data sensitivity, 1 (public) to 5 (must not leave the building).");
                a.number("--cost", c->cost, "Cost sensitivity, 0 to 1.");
                a.number("--peak-to-mean", c->peak_to_mean, "Busiest hour over the average hour.");
                a.text("--currency", c->money.code, "Currency to show amounts in.", "CODE");
                a.number("--per-cny", c->money.per_cny, "Units of that currency for one CNY.", 1e-6, 1e6);
                declare_size(a, c->size);
                declare_output(a, c->output);
              },
          .run = [c](const Invocation&) { return run_report(*c); }};
}

Command plan_autoscale_command() {
  auto c = std::make_shared<AutoscaleCommand>();
  return {
      .name = "plan autoscale",
      .summary = "Simulates the scaling law against static provisioning and a CPU-style HPA on load curves.",
      .details = "Each policy at the cheapest of its settings that reaches the service level; same seed, same figures.",
      .examples =
          "  homeport plan autoscale\n"
          "  homeport plan autoscale --curve load.csv --step 60 --slo 0.999 --warmup-s 60 --json",
      .declare =
          [c](Arguments& a) {
            a.number("--peak", c->peak, "Highest load of the shipped curves, requests/s.", 0.1, 200);
            a.number("--slo", c->slo, "Share of requests whose first token must be in time.", 0.5, 0.99999);
            a.number("--ttft-s", c->inputs.policy.ttft_target_s, "First token in time, seconds.", 0.01, 600);
            a.number("--warmup-s", c->inputs.policy.warmup_s, "From asking for a replica to its first token.", 0, 7200);
            a.number("--replica-rps", c->inputs.policy.replica_rps, "What one replica carries.", 0.01, 1000);
            a.number("--seed", c->seed, "Seed of the arrivals.", 0, 1e9);
            a.text("--curve", c->curve, "Own curve: one requests-per-second figure per line.", "FILE");
            a.number("--step", c->step, "Seconds between the lines of --curve.", 1, 86400);
            declare_output(a, c->output);
          },
      .run = [c](const Invocation&) { return run_autoscale(*c); }};
}

Command plan_deploy_command() {
  auto c = std::make_shared<DeployCommand>();
  return {
      .name = "plan deploy",
      .summary = "Writes the files that run a sizing: Kubernetes manifests, systemd units or a compose file.",
      .details = "Takes the first configuration of the tier that Homeport's nodes run by themselves.",
      .examples =
          "  homeport plan deploy --target kubernetes --model deepseek-r1-distill-qwen-32b --requests-per-second 5\n"
          "  homeport plan deploy --target systemd --accelerator cpu-2x-epyc-9654 --model deepseek-v2-lite --output "
          "/tmp/units",
      .declare =
          [c](Arguments& a) {
            a.text("--target", c->target, "kubernetes, systemd or compose.", "TARGET");
            a.toggle("--json", c->output.json, "Print what was written as JSON.");
            a.text("--output", c->folder, "Folder to write to; default deploy-TARGET.", "DIR");
            a.text("--tier", c->tier, "basic or performance.", "TIER");
            a.text("--name", c->options.name, "Prefix of every object.");
            a.text("--namespace", c->options.name_space, "Kubernetes namespace.");
            a.text("--image", c->options.image, "Container image.");
            a.text("--program", c->options.program, "systemd: path of the program.", "PATH");
            a.text("--model-path", c->options.model_path, "Weights, inside the container or on the machine.", "PATH");
            a.text("--model-name", c->options.model_name, "Name in the API; default the catalog's.");
            a.text("--models-directory", c->options.models_directory, "compose: folder mounted at /models.", "DIR");
            a.text("--prometheus", c->options.prometheus, "Address that KEDA asks.", "URL");
            declare_size(a, c->size);
          },
      .run = [c](const Invocation&) { return run_deploy(*c); }};
}

Command plan_accuracy_command() {
  struct Flags {
    PlanOutput output;
    CatalogFiles files;
  };
  auto c = std::make_shared<Flags>();
  return {.name = "plan accuracy",
          .summary = "Every measured point beside its prediction by a fit that has not seen it, and the mean errors.",
          .examples =
              "  homeport plan accuracy\n"
              "  homeport bench --model model.gguf --json > mine.json\n"
              "  homeport plan accuracy --measurements mine.json@cpu-2x-epyc-9654",
          .declare =
              [c](Arguments& a) {
                a.text("--catalog", c->files.catalog, "More or other accelerators.", "FILE");
                a.text("--measurements", c->files.measurements,
                       "Own measured points as well: TOML, or `bench --json` as FILE@ACCELERATOR.", "FILE");
                declare_output(a, c->output);
              },
          .run = [c](const Invocation&) -> Result<int> {
            HP_TRY(const planner::Language language, language_of(c->output));
            HP_TRY(const Catalogs catalogs, load_catalogs(c->files, nullptr));
            return print_answer(answer_accuracy(catalogs.calibrations, language), c->output);
          }};
}

Command plan_catalog_command() {
  auto c = std::make_shared<SizeCommand>();
  return {.name = "plan catalog",
          .summary = "The models and machines the planner knows, with the source of every figure.",
          .examples = "  homeport plan catalog\n  homeport plan catalog --json",
          .declare =
              [c](Arguments& a) {
                a.text("--prices", c->size.files.prices, "Price list: TOML with [accelerators] id = CNY.", "FILE");
                a.text("--catalog", c->size.files.catalog, "More or other accelerators.", "FILE");
                declare_output(a, c->output);
              },
          .run = [c](const Invocation&) -> Result<int> {
            HP_TRY(const Catalogs catalogs, load_catalogs(c->size.files, nullptr));
            return print_answer(catalog_answer(catalogs.accelerators), c->output);
          }};
}

}  // namespace hp::cli
