#include "cli/node_flags.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "cli/model_fetch.h"

namespace hp::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr std::string_view kDefaultModelFile = "SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr std::size_t kMaxKeysFileLines = 100'000;

/// One key per line; blank lines and lines that begin with # are for people.
Result<std::vector<std::string>> read_keys(const fs::path& path) {
  std::ifstream file(path);
  if (!file) return fail(ErrorCode::io_error, "cannot read the API keys file {}", path.string());
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    const std::size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    keys.push_back(line.substr(begin, end - begin + 1));
    if (keys.size() > kMaxKeysFileLines)
      return fail(ErrorCode::resource_exhausted, "{} has more than {} keys", path.string(), kMaxKeysFileLines);
  }
  // An empty file must not mean an open server.
  if (keys.empty()) return fail(ErrorCode::invalid_argument, "{} holds no API key; one per line", path.string());
  return keys;
}

std::vector<std::string> names_of(const Config& config, const fs::path& model) {
  std::vector<std::string> names;
  std::string_view text = config.text("model.name");
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) names.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (names.empty()) {
    const fs::path last = model.has_filename() ? model.filename() : model.parent_path().filename();
    names.push_back(last.extension() == ".gguf" ? last.stem().string() : last.string());
  }
  if (std::ranges::find(names, "default") == names.end()) names.emplace_back("default");
  return names;
}

milliseconds ms(const Config& config, std::string_view key) {
  return milliseconds(config.integer(key));
}

}  // namespace

fs::path models_folder() {
  if (const char* folder = std::getenv("HOMEPORT_MODELS")) return folder;
  if (const char* home = std::getenv("HOME")) return fs::path(home) / ".homeport/models";
  return {};
}

Result<fs::path> model_path(const Config& config) {
  const std::string& given = config.text("model.path");
  std::error_code error;
  if (!given.empty()) {
    if (fs::exists(given, error)) return fs::path(given);
    if (names_a_model(given)) return find_or_fetch(given, config.text("model.hub"));
    return fail(ErrorCode::not_found,
                "there is no model at {}; expected a .gguf file, a folder with config.json, or a name (homeport pull "
                "--list)",
                given);
  }
  const fs::path fetched = models_folder() / kDefaultModelFile;
  if (fs::exists(fetched, error)) return fetched;
  return fail(
      ErrorCode::invalid_argument,
      "no model given: name one (homeport pull --list shows some), add --model FILE (a .gguf file or a folder with "
      "config.json and *.safetensors), or fetch the default one with scripts/model.sh");
}

Result<Config> with_model(const Config& config, const std::string& model) {
  if (model.empty()) return config;
  if (config.source("model.path") == ConfigSource::flag)
    return fail(ErrorCode::invalid_argument, "two models are named: '{}' and --model {}", model,
                config.text("model.path"));
  Config changed = config;
  HP_TRY_VOID(changed.set_flag("model", model));
  return changed;
}

Result<LoadOptions> load_options(const Config& config) {
  LoadOptions options = engine_options(config);
  HP_TRY(options.path, model_path(config));
  return options;
}

LoadOptions engine_options(const Config& config) {
  return LoadOptions{.device = config.text("engine.device"),
                     .gpu_weights = config.text("engine.gpu_weights"),
                     .batch_invariant = config.boolean("engine.batch_invariant"),
                     .isa = config.text("engine.isa"),
                     .tensor_parallel = static_cast<int>(config.integer("engine.tensor_parallel")),
                     .threads = static_cast<int>(config.integer("engine.threads")),
                     .kv_dtype = config.text("engine.kv_dtype"),
                     .kv_bytes = static_cast<std::size_t>(config.integer("engine.kv_mib")) << 20,
                     .context = static_cast<std::int32_t>(config.integer("engine.context")),
                     .max_step_tokens = static_cast<std::int32_t>(config.integer("engine.max_step_tokens")),
                     .max_running = static_cast<std::int32_t>(config.integer("engine.max_running")),
                     .predict = config.integer("engine.draft_tokens") > 0};
}

Result<NodeOptions> node_options(const Config& config) {
  NodeOptions o;
  HP_TRY(o.model, load_options(config));
  o.served_names = names_of(config, o.model.path);
  o.any_model_name = config.boolean("model.any_name");
  o.address = config.text("server.host");
  o.port = static_cast<std::uint16_t>(config.integer("server.port"));
  o.http_threads = static_cast<int>(config.integer("server.threads"));
  o.max_connections = static_cast<std::size_t>(config.integer("server.max_connections"));
  o.max_body_bytes = static_cast<std::size_t>(config.integer("server.max_body_bytes"));
  o.header_timeout = ms(config, "server.header_timeout_ms");
  o.body_timeout = ms(config, "server.body_timeout_ms");
  o.idle_timeout = ms(config, "server.idle_timeout_ms");
  o.write_timeout = ms(config, "server.write_timeout_ms");
  HP_TRY(o.tls, net::TlsIdentity::load(config.text("server.tls_cert_file"), config.text("server.tls_key_file")));
  if (const std::string& file = config.text("server.api_keys_file"); !file.empty()) {
    HP_TRY(o.api_keys, read_keys(file));
  }
  o.admin_address = config.text("server.admin_host");
  o.admin_port = static_cast<std::uint16_t>(config.integer("server.admin_port"));
  o.step_timeout = std::chrono::milliseconds(config.integer("engine.step_timeout_ms"));
  o.max_waiting = static_cast<std::int32_t>(config.integer("engine.max_waiting"));
  o.draft_tokens = static_cast<std::int32_t>(config.integer("engine.draft_tokens"));
  o.prefix_cache = config.boolean("engine.prefix_cache");
  o.request_timeout = ms(config, "server.request_timeout_ms");
  o.drain_time = ms(config, "server.drain_ms");
  o.drain_grace = ms(config, "server.drain_grace_ms");
  o.journal = config.boolean("server.journal");
  o.access_log = config.boolean("log.access");
  o.access_file = config.text("log.access_file");
  return o;
}

}  // namespace hp::cli
