#include "gateway/gateway_config.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "net/resolve.h"

namespace hp::gateway {
namespace {

constexpr std::size_t kMaxNodesFileBytes = 1 << 20;
constexpr std::string_view kDnsPrefix = "dns:";
constexpr std::string_view kKubePrefix = "k8s:";

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\r')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

Result<std::string> read_small_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file && file.peek() == std::ifstream::traits_type::eof())
    return fail(ErrorCode::invalid_argument,
                "the file '{}' is empty: it may be half written, so nothing is taken from it; if it is meant so, write "
                "a comment line into it",
                path);
  if (!file || !(text << file.rdbuf()))
    return fail(ErrorCode::not_found, "cannot read the file '{}': does it exist, and may this process read it?", path);
  if (text.view().size() > kMaxNodesFileBytes)
    return fail(ErrorCode::invalid_argument, "the file '{}' is larger than {} bytes", path, kMaxNodesFileBytes);
  return std::move(text).str();
}

milliseconds ms(const Config& config, std::string_view key) {
  return milliseconds(config.integer(key));
}

}  // namespace

Result<std::vector<NodeConfig>> parse_nodes(std::string_view text, char separator, std::string_view source) {
  std::vector<NodeConfig> nodes;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find(separator));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    line = trim(line.substr(0, line.find('#')));
    if (line.empty() || line.starts_with(kKubePrefix)) continue;
    const bool by_dns = line.starts_with(kDnsPrefix);
    auto node = parse_node(by_dns ? line.substr(kDnsPrefix.size()) : line);
    if (!node) return fail(std::move(node).error().with_context(source));
    if (!by_dns) {
      nodes.push_back(*std::move(node));
      continue;
    }
    HP_TRY(const auto addresses, net::resolve_all(node->host));
    for (const std::string& address : addresses) {
      nodes.push_back(*node);
      nodes.back().host = address;
      nodes.back().name = fmt::format("{}/{}", node->name, address);
    }
  }
  return nodes;
}

Status check_names(const std::vector<NodeConfig>& nodes) {
  std::set<std::string_view> names;
  for (const NodeConfig& node : nodes)
    if (!names.insert(node.name).second)
      return fail(ErrorCode::invalid_argument, "two nodes have the name '{}'; give each its own: name=host:port",
                  node.name);
  return {};
}

Result<std::vector<NodeConfig>> configured_nodes(const Config& config) {
  HP_TRY(auto nodes, parse_nodes(config.text("gateway.nodes"), ',', "gateway.nodes"));
  if (const std::string& path = config.text("gateway.nodes_file"); !path.empty()) {
    HP_TRY(const std::string text, read_small_file(path));
    HP_TRY(auto more, parse_nodes(text, '\n', path));
    nodes.insert(nodes.end(), more.begin(), more.end());
  }
  HP_TRY_VOID(check_names(nodes));
  return nodes;
}

Result<std::vector<KubeSource>> configured_kube(const Config& config) {
  std::string text = config.text("gateway.nodes");
  std::ranges::replace(text, ',', '\n');
  if (const std::string& path = config.text("gateway.nodes_file"); !path.empty()) {
    HP_TRY(const std::string more, read_small_file(path));
    text.append("\n").append(more);
  }
  std::vector<KubeSource> sources;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    line = trim(line.substr(0, line.find('#')));
    if (!line.starts_with(kKubePrefix)) continue;
    HP_TRY(auto source, parse_kube_source(line.substr(kKubePrefix.size())));
    sources.push_back(std::move(source));
  }
  return sources;
}

bool has_dns_nodes(const Config& config) {
  if (config.text("gateway.nodes").find(kDnsPrefix) != std::string::npos) return true;
  const std::string& path = config.text("gateway.nodes_file");
  const auto text = path.empty() ? Result<std::string>("") : read_small_file(path);
  return text && text->find(kDnsPrefix) != std::string::npos;
}

Result<std::vector<TenantConfig>> configured_tenants(const Config& config) {
  std::vector<TenantConfig> tenants;
  if (const std::string& path = config.text("gateway.tenants_file"); !path.empty()) {
    HP_TRY(const std::string text, read_small_file(path));
    HP_TRY(tenants, parse_tenants(text, path));
  }
  if (const std::string& path = config.text("server.api_keys_file"); !path.empty()) {
    HP_TRY(const std::string text, read_small_file(path));
    tenants.push_back(tenant_of_keys(text));
    if (tenants.back().key_sha256.empty())
      return fail(ErrorCode::invalid_argument, "'{}' holds no key: the gateway would be open to all", path);
  }
  return tenants;
}

Result<GatewayOptions> gateway_options(const Config& config) {
  GatewayOptions options;
  HP_TRY(options.nodes, configured_nodes(config));
  HP_TRY_VOID(configured_kube(config));
  HP_TRY(options.tenants, configured_tenants(config));
  options.policy = config.text("gateway.policy");
  if (const std::string& path = config.text("gateway.refusals_file"); !path.empty()) {
    HP_TRY(const std::string text, read_small_file(path));
    options.refusal_phrases = parse_refusal_phrases(text);
  }
  options.queue_timeout = ms(config, "gateway.queue_timeout_ms");
  options.max_waiting = static_cast<std::size_t>(config.integer("gateway.max_waiting"));
  options.resume_timeout = ms(config, "gateway.resume_timeout_ms");
  options.first_token_timeout = ms(config, "gateway.first_token_timeout_ms");
  options.probe_interval = ms(config, "gateway.probe_interval_ms");
  options.hedge_share = config.number("gateway.hedge_percent") / 100;
  options.cors_origin = config.text("gateway.cors_origin");
  options.reattach_ttl = std::chrono::seconds(config.integer("gateway.reattach_s"));
  options.redis = config.text("gateway.redis");
  options.redis_timeout = ms(config, "gateway.redis_timeout_ms");
  if (const std::string& file = config.text("gateway.redis_password_file"); !file.empty()) {
    HP_TRY(const std::string text, read_small_file(file));
    options.redis_password = trim(text.substr(0, text.find('\n')));
  }
  options.replies = {.max_bytes = static_cast<std::size_t>(config.integer("gateway.cache_mib")) << 20,
                     .cache = config.boolean("gateway.cache"),
                     .cache_ttl = std::chrono::seconds(config.integer("gateway.cache_ttl_s")),
                     .idempotency_ttl = std::chrono::seconds(config.integer("gateway.idempotency_s"))};
  options.admin_address = config.text("server.admin_host");
  options.admin_port = static_cast<std::uint16_t>(config.integer("server.admin_port"));
  options.access_log = config.boolean("log.access");
  options.access_file = config.text("log.access_file");
  if (const std::string& file = config.text("gateway.tls_ca_file"); !file.empty()) {
    HP_TRY(options.authority, net::TlsAuthority::load(file));
  }
  HP_TRY(auto identity,
         net::TlsIdentity::load(config.text("server.tls_cert_file"), config.text("server.tls_key_file")));
  options.server = {.address = config.text("server.host"),
                    .port = static_cast<std::uint16_t>(config.integer("server.port")),
                    .threads = static_cast<int>(config.integer("server.threads")),
                    .tls = std::move(identity),
                    .reuse_port = config.boolean("gateway.share_port"),
                    .max_connections = static_cast<std::size_t>(config.integer("server.max_connections")),
                    .max_body_bytes = static_cast<std::size_t>(config.integer("server.max_body_bytes")),
                    .max_queued_bytes = kMaxQueuedBytes,
                    .header_timeout = ms(config, "server.header_timeout_ms"),
                    .body_timeout = ms(config, "server.body_timeout_ms"),
                    .idle_timeout = ms(config, "server.idle_timeout_ms"),
                    .write_timeout = ms(config, "server.write_timeout_ms")};
  return options;
}

}  // namespace hp::gateway
