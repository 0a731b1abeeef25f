#include "cli/plan_common.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/toml.h"
#include "cli/plan_engine.h"
#include "model/hf_config.h"
#include "planner/workload.h"

namespace hp::cli {
namespace {

constexpr int kServerThreads = 128;  // of a two-socket server; each has scratch of its own
constexpr std::size_t kMaxFileBytes = std::size_t{256} << 20;

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) {
    if (!item.empty()) out.push_back(item);
  }
  return out;
}

/// A TOML file of series, or FILE@ACCELERATOR with what `homeport bench --json` printed.
Result<std::vector<planner::Measurement>> load_points(const std::string& measurements) {
  if (measurements.empty()) return planner::load_measurements();
  const std::size_t at = measurements.rfind('@');
  const std::string path = measurements.substr(0, at);
  HP_TRY(const std::string text, read_text_file(path));
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || text[first] != '{') return planner::load_measurements(text, path);
  if (at == std::string::npos)
    return fail(
        ErrorCode::invalid_argument,
        "--measurements: {} is of `homeport bench`; say on which accelerator, as {}@h200 (homeport plan catalog "
        "lists them)",
        path, path);
  HP_TRY(const JsonValue bench, JsonValue::parse(text));
  HP_TRY(std::vector<planner::Measurement> own,
         planner::measurements_of_bench(bench, measurements.substr(at + 1), path));
  HP_TRY(std::vector<planner::Measurement> all, planner::load_measurements());
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

}  // namespace

void declare_output(Arguments& arguments, PlanOutput& output) {
  arguments.toggle("--json", output.json, "Print JSON.");
  arguments.toggle("--csv", output.csv, "Print the tables as CSV.");
  arguments.text("--html", output.html, "Write one self-contained HTML page to this file; - prints it.", "FILE");
  arguments.text("--lang", output.language, "en or zh; without it LC_ALL or LANG decides.", "LANG");
}

Result<planner::Language> language_of(const PlanOutput& output) {
  if (output.language.empty()) {
    for (const char* const name : {"LC_ALL", "LANG"}) {
      if (const char* value = std::getenv(name); value != nullptr && *value != '\0')
        return planner::language_from(value).value_or(planner::Language::en);
    }
    return planner::Language::en;
  }
  if (const auto language = planner::language_from(output.language)) return *language;
  return fail(ErrorCode::invalid_argument, "--lang: expected en or zh, found '{}'", output.language);
}

Result<int> print_answer(const planner::Answer& answer, const PlanOutput& output) {
  HP_TRY(const planner::Language language, language_of(output));
  if (!output.html.empty() && output.html != "-") {
    std::ofstream file(output.html, std::ios::binary);
    file << render(answer, planner::Format::html, language);
    if (!file.flush())
      return fail(ErrorCode::io_error, "--html: cannot write {}; is its folder there and writable?", output.html);
    std::fprintf(stderr, "wrote %s\n", output.html.c_str());
    if (!output.json && !output.csv) return 0;
  }
  const planner::Format format = output.json          ? planner::Format::json
                                 : output.csv         ? planner::Format::csv
                                 : output.html == "-" ? planner::Format::html
                                                      : planner::Format::text;
  const std::string text = render(answer, format, language);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

Result<std::string> read_text_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return fail(ErrorCode::invalid_argument, "{}: cannot be read; is the path right?", path);
  const std::streamoff size = in.tellg();
  if (size < 0 || static_cast<std::size_t>(size) > kMaxFileBytes)
    return fail(ErrorCode::invalid_argument, "{}: expected a file of at most {} bytes", path, kMaxFileBytes);
  std::string text(static_cast<std::size_t>(size), '\0');
  in.seekg(0);
  if (!in.read(text.data(), size)) return fail(ErrorCode::invalid_argument, "{}: cannot be read", path);
  return text;
}

Status apply_price_list(const std::string& path, planner::TcoInputs* tco, std::vector<planner::Accelerator>* catalog) {
  HP_TRY(const std::string text, read_text_file(path));
  HP_TRY(const JsonValue tree, parse_toml(text, path));
  for (const auto& [name, table] : *tree.as_object()) {
    if (name == "tco") {
      if (tco != nullptr) HP_TRY_VOID(planner::set_inputs(planner::tco_fields(), *tco, table, path + ": tco"));
    } else if (name == "accelerators") {
      if (catalog != nullptr) HP_TRY_VOID(planner::apply_prices(*catalog, table, path + ": accelerators"));
    } else {
      const std::string_view near = nearest_name(name, std::vector<std::string_view>{"tco", "accelerators"});
      return fail(ErrorCode::invalid_argument, "{}: expected the tables [tco] and [accelerators], found '{}'{}", path,
                  name, near.empty() ? "" : fmt::format("; did you mean [{}]?", near));
    }
  }
  return {};
}

Result<Catalogs> load_catalogs(const CatalogFiles& files, planner::TcoInputs* tco) {
  std::string catalog;
  if (!files.catalog.empty()) {
    HP_TRY(catalog, read_text_file(files.catalog));
  }
  Catalogs out;
  HP_TRY(out.accelerators, planner::load_accelerators(catalog, files.catalog));
  if (!files.prices.empty()) HP_TRY_VOID(apply_price_list(files.prices, tco, &out.accelerators));
  HP_TRY(const std::vector<planner::Measurement> points, load_points(files.measurements));
  HP_TRY(out.calibrations, planner::calibrate_all(points, out.accelerators));
  return out;
}

Result<ModelConfig> model_from(const std::string& name) {
  if (name.find('/') == std::string::npos && !name.ends_with(".json")) return planner::catalog_model(name);
  HP_TRY(const std::string text, read_text_file(name));
  return config_from_hf(text, name);
}

void declare_size(Arguments& arguments, SizeFlags& flags) {
  arguments.text("--model", flags.model, "A model of `plan catalog`, or a path to a config.json.", "NAME");
  flags.request.inputs.context = 0;  // chosen in complete()
  declare_fields(arguments, planner::size_fields(), flags.request.inputs);
  arguments.text("--format", flags.formats,
                 "Weight formats to consider, separated by commas; default: bf16, fp8, int8.", "LIST");
  arguments.text("--accelerator", flags.accelerators,
                 "Machines to consider, separated by commas; `all`: also those Homeport has no kernels for.", "LIST");
  arguments.text("--load-curve", flags.curve,
                 "File with one requests-per-second figure per line; its highest is the load.", "FILE");
  arguments.text("--access-log", flags.access_log,
                 "Web server log (common format, or lines with ISO or epoch time); its busiest minute is the load.",
                 "FILE");
  arguments.text("--prices", flags.files.prices, "Price list: TOML with [accelerators] id = CNY and [tco].", "FILE");
  arguments.text("--catalog", flags.files.catalog, "More or other accelerators, in the shape of the shipped catalog.",
                 "FILE");
  arguments.text("--measurements", flags.files.measurements,
                 "Own measured points, to calibrate and to check: TOML, or `bench --json` as FILE@ACCELERATOR.",
                 "FILE");
}

Status complete(SizeFlags& flags, const Catalogs& catalogs) {
  planner::SizeRequest& request = flags.request;
  HP_TRY(request.model, model_from(flags.model));
  request.model_name = flags.model.find('/') == std::string::npos ? flags.model : request.model.name;
  // Without a wish the default context gives way to what the model has.
  if (request.inputs.context == 0)
    request.inputs.context = std::min<double>(planner::SizeInputs{}.context, request.model.context);
  if (!flags.curve.empty()) {
    HP_TRY(const std::string text, read_text_file(flags.curve));
    HP_TRY(const planner::LoadCurve curve, planner::curve_from_csv(text, flags.curve, 3600));
    request.inputs.requests_per_second = curve.peak();
  }
  if (!flags.access_log.empty()) {
    HP_TRY(const std::string text, read_text_file(flags.access_log));
    HP_TRY(const planner::LoggedLoad load, planner::load_of_log(text, flags.access_log));
    request.inputs.requests_per_second = load.peak_minute_rps;
  }
  request.formats = split(flags.formats);
  request.accelerators = split(flags.accelerators);
  if (request.accelerators == std::vector<std::string>{"all"}) {
    request.accelerators.clear();
    for (const planner::Accelerator& a : catalogs.accelerators) request.accelerators.push_back(a.id);
  }
  request.engine_memory = [context = static_cast<std::int32_t>(request.inputs.context)](
                              const ModelConfig& model, const planner::WeightFormat& format, std::int32_t step_tokens) {
    const Result<EngineMemory> memory =
        engine_memory_of(model, format,
                         {.isa = kernels::choose_isa("auto").value_or(kernels::Isa::ref),
                          .threads = kServerThreads,
                          .blocks = 1,
                          .max_step_tokens = step_tokens,
                          .context = context});
    return memory.value_or(EngineMemory{.weights = std::size_t{1} << 60});  // such types do not run: fits nowhere
  };
  return validate(request, catalogs.accelerators);
}

}  // namespace hp::cli
