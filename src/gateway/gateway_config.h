// Configuration keys to the gateway's options.
#pragma once

#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "gateway/kube_slices.h"
#include "gateway/options.h"

namespace hp::gateway {

Result<GatewayOptions> gateway_options(const Config& config);
/// From gateway.nodes and gateway.nodes_file together; two nodes of one name are an error. "dns:name:port" stands for
/// a node per address of the name (a headless service): resolving blocks.
Result<std::vector<NodeConfig>> configured_nodes(const Config& config);
/// An error when two of the nodes have one name.
Status check_names(const std::vector<NodeConfig>& nodes);
/// Some nodes come from DNS and may change without a word.
bool has_dns_nodes(const Config& config);
/// From gateway.tenants_file and server.api_keys_file.
Result<std::vector<TenantConfig>> configured_tenants(const Config& config);
/// The entries "k8s:namespace/service:port" of both.
Result<std::vector<KubeSource>> configured_kube(const Config& config);
/// Entries of Kubernetes are left out. One node per line; empty lines and lines from '#' on are skipped.
Result<std::vector<NodeConfig>> parse_nodes(std::string_view text, char separator, std::string_view source);

}  // namespace hp::gateway
