// The nodes that change without a word of the operator: those of a file, of DNS and of Kubernetes. For one thread.
#pragma once

#include <chrono>
#include <ctime>
#include <memory>
#include <vector>

#include "base/config.h"
#include "base/result.h"
#include "gateway/gateway.h"
#include "gateway/kube_discovery.h"

namespace hp::gateway {

class NodeFeed {
 public:
  /// `own`: nodes of the gateway's that stand in no configuration.
  NodeFeed(Gateway& gateway, const Config& config, std::vector<NodeConfig> own = {});

  /// From here on this configuration counts.
  Status begin(const Config& config);
  /// The nodes file, since the last call.
  bool file_changed();
  /// What is not in the configuration itself: our own nodes and those that Kubernetes names.
  [[nodiscard]] std::vector<NodeConfig> others() const;
  /// A few times a second: looks names up when it is time to, and tells the gateway what changed.
  void tick();

 private:
  using Clock = std::chrono::steady_clock;
  Gateway& gateway_;
  Config config_;
  const std::vector<NodeConfig> own_;
  timespec seen_{};
  bool dns_ = false;
  Clock::time_point resolved_at_ = Clock::now();
  std::vector<KubeSource> sources_;
  std::unique_ptr<KubeDiscovery> kube_;
  std::uint64_t kube_version_ = 0;
};

}  // namespace hp::gateway
