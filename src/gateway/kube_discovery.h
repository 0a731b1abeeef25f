// Follows the EndpointSlices of Kubernetes services: a list, then a watch from its version on, with bookmarks; a list
// again when the API has forgotten that version (410). While the API is away the nodes known before stay. Runs on a
// loop of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/kube_api.h"
#include "gateway/kube_slices.h"

namespace hp::gateway {

class KubeDiscovery {
 public:
  static Result<std::unique_ptr<KubeDiscovery>> start(std::vector<KubeSource> sources, const KubeOptions& options);
  virtual ~KubeDiscovery() = default;
  /// Grows with every change of nodes(). From any thread.
  [[nodiscard]] virtual std::uint64_t version() const = 0;
  [[nodiscard]] virtual std::vector<NodeConfig> nodes() const = 0;
};

}  // namespace hp::gateway
