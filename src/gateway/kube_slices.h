// Kubernetes EndpointSlices (discovery.k8s.io/v1) as values: what the API's list and watch say, and which nodes that
// makes. No sockets.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/node_table.h"

namespace hp::gateway {

/// "k8s:namespace/service:port;options": every pod behind the service is a node.
struct KubeSource {
  std::string space, service;
  std::string port;    ///< a number, or a port's name
  NodeConfig pattern;  ///< priority, capacity and the like of each node

  bool operator==(const KubeSource&) const = default;
};
Result<KubeSource> parse_kube_source(std::string_view text);

struct KubeEndpoint {
  std::string pod, address;
  bool terminating = false;
};
struct KubeSlice {
  std::string name;
  std::vector<KubeEndpoint> endpoints;
  std::vector<std::pair<std::string, std::uint16_t>> ports;  ///< by name
};

struct KubeList {
  std::string version;  ///< resourceVersion, where a watch begins
  std::vector<KubeSlice> slices;
};
Result<KubeList> parse_slice_list(std::string_view json);

struct KubeEvent {
  enum class Kind { put, remove, bookmark, too_old, error };
  Kind kind = Kind::error;
  std::string version, message;
  KubeSlice slice;
};
Result<KubeEvent> parse_watch_event(std::string_view json);

/// The slices of one service by name.
class KubeSlices {
 public:
  void replace(std::vector<KubeSlice> slices);
  void apply(const KubeEvent& event);
  /// Pods that are ending are left out, so that their streams move on. Whether the others are ready, the gateway asks
  /// them itself. Sorted by name; an address that stands in two slices counts once.
  [[nodiscard]] std::vector<NodeConfig> nodes(const KubeSource& source) const;

 private:
  std::map<std::string, KubeSlice> slices_;
};

}  // namespace hp::gateway
