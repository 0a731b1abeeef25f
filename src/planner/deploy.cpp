#include "planner/deploy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace hp::planner {
namespace data {
extern const std::string_view k8s_kustomization_yaml, k8s_namespace_yaml, k8s_serviceaccount_yaml,
    k8s_models_claim_yaml, k8s_node_yaml, k8s_gateway_yaml, k8s_redis_yaml, k8s_disruption_yaml, k8s_network_yaml,
    k8s_keda_yaml, k8s_hpa_yaml, k8s_adapter_yaml, k8s_monitoring_yaml, k8s_inferencepool_yaml, Containerfile,
    homeport_node__service, homeport_gateway_service, homeport_target, systemd_readme_txt, compose_yaml,
    compose_node_yaml;
}  // namespace data
namespace {

using Values = std::map<std::string, std::string, std::less<>>;

constexpr double kLoadBytesPerSecond = 2e8;
constexpr double kStartMargin = 60;  // seconds besides reading the weights
constexpr int kFirstNodePort = 8100;
constexpr int kMaxNodes = 256;

std::string whole(double value) {
  return fmt::format("{:.0f}", value);
}

struct Shape {
  int nodes = 1, most = 1, per_server = 1;
};

Shape shape_of(const Configuration& c) {
  const int nodes = std::max(1, static_cast<int>(c.devices / c.tensor_parallel));
  const int per_server = std::max(1, static_cast<int>(std::ceil(c.devices / c.servers / c.tensor_parallel)));
  return {.nodes = nodes, .most = std::min(kMaxNodes, 2 * nodes), .per_server = per_server};
}

/// Where ":9090" begins in an address; its end without one.
std::size_t port_at(std::string_view url) {
  const std::size_t at = url.rfind(':');
  const bool digits = at != std::string_view::npos && at + 1 < url.size() &&
                      url.find_first_not_of("0123456789", at + 1) == std::string_view::npos;
  return digits ? at : url.size();
}

std::string indented(std::string_view text, std::string_view by) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) out += std::string(by) + std::string(text.substr(0, end));
    out += '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

/// KV memory of a CPU node: what the sizing left for it, but no more than half of the machine.
double cpu_kv_bytes(const Configuration& c) {
  return std::min(c.memory.kv_bytes(), 0.5 * c.memory.available);
}

std::string node_memory_gb(const Configuration& c) {
  // A CPU node holds everything in RAM; a GPU node needs the file's pages while it loads, and the runtime.
  const bool cpu = c.device.kind == Accelerator::Kind::cpu;
  const double bytes =
      cpu ? c.memory.weights + c.memory.step + cpu_kv_bytes(c) + 4e9 : std::min(c.memory.weights, 1.2e11) + 1.6e10;
  return whole(std::ceil(bytes / 1e9));
}

/// How the engine is to hold the model, as the sizing assumed it.
std::vector<std::string> engine_flags(const SizeRequest& request, const Configuration& c) {
  const bool gpu = c.device.kind != Accelerator::Kind::cpu;
  std::vector<std::string> out = {gpu ? "--device=cuda" : "--device=cpu", "--context=" + whole(request.inputs.context),
                                  "--max-step-tokens=" + whole(c.chunk_tokens)};
  out.push_back("--max-running=" + whole(std::clamp(std::ceil(c.latency.sequences_p99 * 1.5), 8.0, 1024.0)));
  out.push_back(gpu ? "--gpu-weights=" + c.format : "--kv-mib=" + whole(std::floor(cpu_kv_bytes(c) / (1 << 20))));
  return out;
}

Values values_of(const SizeRequest& request, const Configuration& c, const DeployOptions& o) {
  const Shape shape = shape_of(c);
  const ScalingPolicy policy;
  const double load_seconds = c.memory.weights / kLoadBytesPerSecond + kStartMargin;
  const bool gpu = c.device.kind != Accelerator::Kind::cpu;
  std::string lines, units, names;
  for (int i = 0; i < shape.most; ++i) lines += fmt::format("    {0}-node-{1}={0}-node-{1}.{0}-node:8000\n", o.name, i);
  for (int i = 0; i < shape.per_server; ++i) units += fmt::format(" homeport-node@{}.service", i);
  for (int i = 0; i < shape.per_server; ++i) names += fmt::format("{}node-{}=node-{}:8000", i > 0 ? "," : "", i, i);
  lines.pop_back();
  std::string yaml_flags, words, quoted;
  for (const std::string& flag : engine_flags(request, c)) {
    yaml_flags += "            - " + flag + "\n";
    words += " " + flag;
    quoted += ", \"" + flag + "\"";
  }
  yaml_flags.pop_back();
  return {
      {"name", o.name},
      {"namespace", o.name_space},
      {"image", o.image},
      {"program", o.program},
      {"model_path", o.model_path},
      {"model_name", o.model_name.empty() ? request.model_name : o.model_name},
      {"model_dir", o.models_directory},
      {"prometheus", o.prometheus},
      {"prometheus_host", o.prometheus.substr(0, port_at(o.prometheus))},
      {"prometheus_port",
       port_at(o.prometheus) < o.prometheus.size() ? o.prometheus.substr(port_at(o.prometheus) + 1) : "80"},
      {"summary", fmt::format("{}, {} requests/s at the peak, {} x {} ({})", request.model_name,
                              significant(request.inputs.requests_per_second), shape.nodes, c.device.name, c.format)},
      {"accelerator", c.device.name},
      {"format", c.format},
      {"gpu", gpu ? "yes" : ""},
      {"gpus", whole(c.tensor_parallel)},
      {"replicas", std::to_string(shape.nodes)},
      {"max_replicas", std::to_string(shape.most)},
      {"nodes_per_server", std::to_string(shape.per_server)},
      {"engine_yaml", yaml_flags},
      {"engine_words", words},
      {"engine_quoted", quoted},
      {"cpu", gpu ? "8" : "32"},
      {"memory_gb", node_memory_gb(c)},
      {"weights_gb", grouped(c.memory.weights / 1e9, 1)},
      {"disk_gb", whole(std::ceil(2 * c.memory.weights / 1e9 + 10))},
      {"startup_failures", whole(std::max(60.0, std::ceil(load_seconds / 5)))},
      {"warmup_s", whole(std::ceil(load_seconds))},
      {"target_rps", fmt::format("{:.3f}", std::max(0.001, c.capacity_rps / c.replicas * policy.utilization_target))},
      {"ttft_s", fmt::format("{:g}", request.inputs.ttft_p99_ms / 1000)},
      {"node_lines", lines},
      {"node_units", units},
      {"compose_nodes", names},
      {"rules", o.rules_yaml.empty() ? "  groups: []" : indented(o.rules_yaml, "  ")},
  };
}

std::vector<DeployFile> kubernetes_files(const Values& values) {
  using Named = std::pair<std::string_view, std::string_view>;
  const std::array<Named, 15> all = {{{"kustomization.yaml", data::k8s_kustomization_yaml},
                                      {"namespace.yaml", data::k8s_namespace_yaml},
                                      {"serviceaccount.yaml", data::k8s_serviceaccount_yaml},
                                      {"models-claim.yaml", data::k8s_models_claim_yaml},
                                      {"node.yaml", data::k8s_node_yaml},
                                      {"gateway.yaml", data::k8s_gateway_yaml},
                                      {"redis.yaml", data::k8s_redis_yaml},
                                      {"disruption.yaml", data::k8s_disruption_yaml},
                                      {"network.yaml", data::k8s_network_yaml},
                                      {"keda.yaml", data::k8s_keda_yaml},
                                      {"hpa.yaml", data::k8s_hpa_yaml},
                                      {"prometheus-adapter.yaml", data::k8s_adapter_yaml},
                                      {"monitoring.yaml", data::k8s_monitoring_yaml},
                                      {"inferencepool.yaml", data::k8s_inferencepool_yaml},
                                      {"Containerfile", data::Containerfile}}};
  std::vector<DeployFile> out;
  for (const auto& [path, text] : all) out.push_back({std::string(path), fill_template(text, values)});
  return out;
}

std::vector<DeployFile> systemd_files(const Values& values, const Configuration& c) {
  std::vector<DeployFile> out = {{"homeport-node@.service", fill_template(data::homeport_node__service, values)},
                                 {"homeport-gateway.service", fill_template(data::homeport_gateway_service, values)},
                                 {"homeport.target", fill_template(data::homeport_target, values)},
                                 {"README.txt", fill_template(data::systemd_readme_txt, values)}};
  const int nodes = shape_of(c).per_server;
  std::string list;
  for (int i = 0; i < nodes; ++i) {
    std::string environment = fmt::format("HOMEPORT_SERVER_PORT={}\n", kFirstNodePort + i);
    if (c.device.kind == Accelerator::Kind::gpu) environment += fmt::format("CUDA_VISIBLE_DEVICES={}\n", i);
    out.push_back({fmt::format("node-{}.env", i), std::move(environment)});
    list += fmt::format("node-{}=127.0.0.1:{}\n", i, kFirstNodePort + i);
  }
  out.push_back({"nodes.txt", std::move(list)});
  return out;
}

std::vector<DeployFile> compose_files(Values values, const Configuration& c) {
  std::string services;
  for (int i = 0; i < shape_of(c).per_server; ++i) {
    values["index"] = std::to_string(i);
    values["device_ids"] = fmt::format("\"{}\"", i);
    services += fill_template(data::compose_node_yaml, values);
  }
  values["compose_services"] = services.substr(0, services.size() - 1);
  return {{"compose.yaml", fill_template(data::compose_yaml, values)},
          {"Containerfile", fill_template(data::Containerfile, values)}};
}

/// What goes into YAML, unit files and command lines unquoted must not be able to break out of them.
Status check_word(std::string_view field, std::string_view value, std::string_view allowed) {
  const bool ok = !value.empty() && std::all_of(value.begin(), value.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           allowed.find(c) != std::string_view::npos;
  });
  if (ok) return {};
  return fail(ErrorCode::invalid_argument, "{}: expected letters, digits and '{}', found '{}'", field, allowed, value);
}

Status check_options(const DeployOptions& o) {
  for (const auto& [field, value] : {std::pair{"name", &o.name}, {"namespace", &o.name_space}}) {
    HP_TRY_VOID(check_word(field, *value, "-"));
    const bool lower = std::none_of(value->begin(), value->end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (!lower || value->front() == '-' || value->back() == '-' || value->size() > 40)
      return fail(ErrorCode::invalid_argument,
                  "{}: expected at most 40 lower-case letters, digits and inner dashes, found '{}'", field, *value);
  }
  HP_TRY_VOID(check_word("image", o.image, "-._/:@"));
  HP_TRY_VOID(check_word("program", o.program, "-._/"));
  HP_TRY_VOID(check_word("model_path", o.model_path, "-._/"));
  HP_TRY_VOID(check_word("models_directory", o.models_directory, "-._/"));
  HP_TRY_VOID(check_word("prometheus", o.prometheus, "-._/:"));
  return o.model_name.empty() ? Status{} : check_word("model_name", o.model_name, "-._/:");
}

}  // namespace

std::optional<DeployTarget> deploy_target_from(std::string_view name) {
  if (name == "kubernetes") return DeployTarget::kubernetes;
  if (name == "systemd") return DeployTarget::systemd;
  if (name == "compose") return DeployTarget::compose;
  return std::nullopt;
}

std::string fill_template(std::string_view text, const Values& values) {
  std::string out;
  std::vector<bool> shown = {true};
  while (!text.empty()) {
    const std::size_t at = std::min(text.find("{{"), text.size());
    if (shown.back()) out += text.substr(0, at);
    text.remove_prefix(at);
    if (text.empty()) break;
    const std::size_t end = text.find("}}");
    HP_CHECK(end != std::string_view::npos, "template: '{{{{' without '}}}}'");
    std::string_view key = text.substr(2, end - 2);
    text.remove_prefix(end + 2);
    const char kind = key.front();
    if (kind == '#' || kind == '^' || kind == '/') {
      key.remove_prefix(1);
      if (text.starts_with('\n')) text.remove_prefix(1);
    }
    if (kind == '/') {
      HP_CHECK(shown.size() > 1, "template: {{{{/{}}}}} closes nothing", key);
      shown.pop_back();
      continue;
    }
    const auto value = values.find(key);
    HP_CHECK(value != values.end(), "template: no value '{}'", key);
    if (kind == '#' || kind == '^') {
      shown.push_back(shown.back() && (kind == '#') != value->second.empty());
    } else if (shown.back()) {
      out += value->second;
    }
  }
  HP_CHECK(shown.size() == 1, "template: a section is not closed");
  return out;
}

Result<std::vector<DeployFile>> deploy_files(DeployTarget target, const SizeRequest& request,
                                             const Configuration& configuration, const DeployOptions& options) {
  HP_TRY_VOID(check_options(options));
  if (!configuration.own_nodes)
    return fail(ErrorCode::unsupported,
                "{} x {} in {}: Homeport's nodes run on one device of a kind that it has kernels for; the nearest that "
                "works: another machine (homeport plan size lists them), or another OpenAI-compatible server behind "
                "`homeport gateway` (kind=openai)",
                configuration.tensor_parallel, configuration.device.name, configuration.format);
  const Values values = values_of(request, configuration, options);
  switch (target) {
    case DeployTarget::kubernetes:
      return kubernetes_files(values);
    case DeployTarget::systemd:
      return systemd_files(values, configuration);
    case DeployTarget::compose:
      break;
  }
  return compose_files(values, configuration);
}

}  // namespace hp::planner
