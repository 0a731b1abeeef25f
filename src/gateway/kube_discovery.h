// Follows the EndpointSlices of Kubernetes services: a list, then a watch from its version on, with bookmarks; a list
// again when the API has forgotten that version (410). While the API is away the nodes known before stay. Runs on a
// loop of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "gateway/kube_slices.h"

namespace hp::gateway {

struct KubeOptions {
  std::string url;         ///< of the API; empty: https:// and KUBERNETES_SERVICE_HOST and _PORT
  std::string token_file;  ///< read again for every request: Kubernetes changes it
  std::string ca_file;
};
KubeOptions kube_options(const Config& config);

class KubeDiscovery {
 public:
  static Result<std::unique_ptr<KubeDiscovery>> start(std::vector<KubeSource> sources, const KubeOptions& options);
  virtual ~KubeDiscovery() = default;
  /// Grows with every change of nodes(). From any thread.
  [[nodiscard]] virtual std::uint64_t version() const = 0;
  [[nodiscard]] virtual std::vector<NodeConfig> nodes() const = 0;
};

}  // namespace hp::gateway
