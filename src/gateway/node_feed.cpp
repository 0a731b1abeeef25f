#include "gateway/node_feed.h"

#include <sys/stat.h>

#include <string>
#include <utility>

#include "gateway/gateway_config.h"

namespace hp::gateway {
namespace {
constexpr std::chrono::seconds kResolveEvery{5};

timespec changed_at(const std::string& path) {
  struct stat info {};
  return !path.empty() && ::stat(path.c_str(), &info) == 0 ? info.st_mtim : timespec{};
}
}  // namespace

NodeFeed::NodeFeed(Gateway& gateway, const Config& config, std::vector<NodeConfig> own)
    : gateway_(gateway), config_(config), own_(std::move(own)) {
  file_changed();
}

Status NodeFeed::begin(const Config& config) {
  HP_TRY(auto sources, configured_kube(config));
  if (sources != sources_) {
    HP_TRY(kube_, KubeDiscovery::start(sources, kube_options(config)));
    sources_ = std::move(sources);
    kube_version_ = 0;
  }
  config_ = config;
  dns_ = has_dns_nodes(config);
  return {};
}

bool NodeFeed::file_changed() {
  const timespec now = changed_at(config_.text("gateway.nodes_file"));
  const bool changed = now.tv_sec != seen_.tv_sec || now.tv_nsec != seen_.tv_nsec;
  seen_ = now;
  return changed;
}

std::vector<NodeConfig> NodeFeed::others() const {
  auto nodes = kube_ ? kube_->nodes() : std::vector<NodeConfig>();
  nodes.insert(nodes.end(), own_.begin(), own_.end());
  return nodes;
}

void NodeFeed::tick() {
  const std::uint64_t version = kube_ ? kube_->version() : 0;
  const bool resolve = dns_ && Clock::now() - resolved_at_ >= kResolveEvery;
  if (!resolve && version == kube_version_) return;
  auto nodes = configured_nodes(config_);
  if (resolve) resolved_at_ = Clock::now();
  if (!nodes) return;  // when names do not resolve, the nodes we know stay
  const auto more = others();
  nodes->insert(nodes->end(), more.begin(), more.end());
  kube_version_ = version;
  gateway_.set_nodes(*nodes);
}

}  // namespace hp::gateway
