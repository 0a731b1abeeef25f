// scale_out and scale_in where Kubernetes runs the nodes: the scale subresource of a Deployment or StatefulSet, in the
// name of the pod's service account (get and patch on its scale are all that it needs).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/config.h"
#include "base/result.h"
#include "cli/operations.h"
#include "gateway/kube_api.h"
#include "net/http_client.h"

namespace hp::cli {

class KubeScale {
 public:
  /// ops.kube_scale: "namespace/NAME" of a Deployment, or "namespace/statefulsets/NAME". The client must outlive this.
  static Result<std::shared_ptr<KubeScale>> open(const Config& config, net::HttpClient& client);

  /// So many replicas more or, below zero, fewer; never below 1 or beyond ops.kube_replicas_max. A change that somebody
  /// else makes at the same time is not overwritten: it is read again. A dry run asks the API whether it would do it.
  Result<FleetControls::Change> change(int by, bool dry_run);

 private:
  struct Scale {
    std::int64_t replicas = 0;
    std::string version;
  };
  KubeScale(gateway::KubeApi api, std::string path, std::string name, std::int64_t most, net::HttpClient& client)
      : api_(std::move(api)), path_(std::move(path)), name_(std::move(name)), most_(most), client_(client) {}
  Result<net::HttpResponse> ask(net::ClientRequest request);
  Result<Scale> read();
  /// False: somebody was faster.
  Result<bool> write(const Scale& seen, std::int64_t replicas, bool dry_run);

  const gateway::KubeApi api_;
  const std::string path_, name_;
  const std::int64_t most_;
  net::HttpClient& client_;
};

}  // namespace hp::cli
