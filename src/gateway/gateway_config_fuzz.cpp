// The files an operator writes and what the Kubernetes API says: nodes, tenants, slices. Every input is taken or
// refused.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "gateway/admission.h"
#include "gateway/gateway_config.h"
#include "gateway/kube_slices.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hp::gateway;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.find("dns:") == std::string_view::npos)  // those are looked up
    if (const auto nodes = parse_nodes(text, '\n', "fuzz"))
      for (const NodeConfig& node : *nodes) HP_CHECK(!node.name.empty() && node.capacity > 0, "'{}'", node.name);
  if (const auto tenants = parse_tenants(text, "fuzz"))
    for (const TenantConfig& tenant : *tenants)
      for (const auto& hash : tenant.key_sha256) HP_CHECK(hash.size() == 64, "'{}'", hash);
  (void)tenant_of_keys(text);
  const auto source = parse_kube_source(text.substr(0, text.find('\n')));
  KubeSlices slices;
  if (auto list = parse_slice_list(text)) slices.replace(std::move(list->slices));
  if (const auto event = parse_watch_event(text)) slices.apply(*event);
  if (source) (void)slices.nodes(*source);
  for (const NodeConfig& node : slices.nodes({.space = "a", .service = "b", .port = "80", .pattern = {}}))
    HP_CHECK(node.port == 80, "{}", node.port);
  return 0;
}
