#include "gateway/daemon.h"

#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <ctime>
#include <string>
#include <thread>

#include "base/log.h"
#include "gateway/gateway_config.h"
#include "gateway/kube_discovery.h"

namespace hp::gateway {
namespace {
using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kResolveEvery{5};
constexpr timespec kTick{.tv_sec = 0, .tv_nsec = 200'000'000};

sigset_t our_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// 0: none came within the tick.
int next_signal() {
  const sigset_t set = our_signals();
  const int signal = sigtimedwait(&set, nullptr, &kTick);
  return signal > 0 ? signal : 0;
}

timespec changed_at(const std::string& path) {
  struct stat info {};
  return !path.empty() && ::stat(path.c_str(), &info) == 0 ? info.st_mtim : timespec{};
}

// The nodes that change without a word of the operator: those of a file, of DNS and of Kubernetes.
class NodeFeed {
 public:
  NodeFeed(Gateway& gateway, const Config& config) : gateway_(gateway), config_(config) { file_changed(); }

  /// From here on this configuration counts.
  Status begin(const Config& config) {
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
  bool file_changed() {
    const timespec now = changed_at(config_.text("gateway.nodes_file"));
    const bool changed = now.tv_sec != seen_.tv_sec || now.tv_nsec != seen_.tv_nsec;
    seen_ = now;
    return changed;
  }
  [[nodiscard]] std::vector<NodeConfig> kube_nodes() const {
    return kube_ ? kube_->nodes() : std::vector<NodeConfig>();
  }
  void tick() {
    const std::uint64_t version = kube_ ? kube_->version() : 0;
    const bool resolve = dns_ && Clock::now() - resolved_at_ >= kResolveEvery;
    if (!resolve && version == kube_version_) return;
    auto nodes = configured_nodes(config_);
    if (resolve) resolved_at_ = Clock::now();
    if (!nodes) return;  // when names do not resolve, the nodes we know stay
    const auto more = kube_nodes();
    nodes->insert(nodes->end(), more.begin(), more.end());
    kube_version_ = version;
    gateway_.set_nodes(*nodes);
  }

 private:
  Gateway& gateway_;
  Config config_;
  timespec seen_{};
  bool dns_ = false;
  Clock::time_point resolved_at_ = Clock::now();
  std::vector<KubeSource> sources_;
  std::unique_ptr<KubeDiscovery> kube_;
  std::uint64_t kube_version_ = 0;
};

void drain(Gateway& gateway, const Config& config) {
  const auto stop_at = Clock::now() + std::chrono::seconds(config.integer("gateway.prestop_s"));
  log::info("gateway: draining, {} requests are open", gateway.open_requests());
  gateway.say_not_ready();
  while (Clock::now() < stop_at)
    if (const int signal = next_signal(); signal == SIGTERM || signal == SIGINT) return;
  gateway.begin_drain();
  const auto end_at = Clock::now() + std::chrono::seconds(config.integer("gateway.drain_s"));
  while (gateway.open_requests() > 0 && Clock::now() < end_at)
    if (const int signal = next_signal(); signal == SIGTERM || signal == SIGINT) return;
  if (gateway.open_requests() > 0)
    log::warn("gateway: {} requests did not finish in time; their clients can take them up again elsewhere",
              gateway.open_requests());
}

}  // namespace

void block_signals() {
  const sigset_t set = our_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void wait_for_end(Gateway& gateway, const Config& config, const std::function<void()>& on_reload,
                  const std::function<void()>& tick) {
  for (;;) {
    const int signal = next_signal();
    if (signal == SIGHUP && on_reload) on_reload();
    if (signal == SIGTERM || signal == SIGINT) return drain(gateway, config);
    if (tick) tick();
  }
}

Status reload(Gateway& gateway, const Config& running, const Config& fresh, const std::vector<NodeConfig>& own) {
  HP_TRY(auto nodes, configured_nodes(fresh));
  HP_TRY(const auto tenants, configured_tenants(fresh));
  HP_TRY_VOID(make_policy(fresh.text("gateway.policy")));
  HP_TRY_VOID(gateway.reload_certificate());
  HP_TRY_VOID(gateway.reopen_log());
  HP_TRY_VOID(gateway.set_policy(fresh.text("gateway.policy")));
  nodes.insert(nodes.end(), own.begin(), own.end());
  gateway.set_nodes(nodes);
  gateway.set_tenants(tenants);
  constexpr std::array<std::string_view, 4> kTaken{"gateway.nodes", "gateway.nodes_file", "gateway.policy",
                                                   "gateway.tenants_file"};
  std::string others;
  for (const ConfigKey& key : config_keys())
    if (std::ranges::find(kTaken, key.name) == kTaken.end() && !key.name.starts_with("log.") &&
        fresh.shown(key.name) != running.shown(key.name))
      others += fmt::format("{}{}", others.empty() ? "" : ", ", key.name);
  log::info("gateway: reloaded, {} nodes{}{}", nodes.size(), others.empty() ? "" : "; these need a restart: ", others);
  return {};
}

int run_gateway(const Config& config, const ConfigReader& reread, const Companion& companion) {
  block_signals();
  auto options = gateway_options(config);
  if (!options) {
    log::error("gateway: {}", options.error().message);
    return 2;
  }
  MetricsRegistry metrics;
  auto started = Gateway::start(*options, metrics);
  if (!started) {
    log::error("gateway: {}", started.error().message);
    return started.error().code == ErrorCode::invalid_argument ? 2 : 1;
  }
  Gateway& gateway = **started;
  log::info("gateway: listening on {}{}:{}, {} nodes, policy {}", options->server.tls ? "https://" : "",
            options->server.address, gateway.port(), options->nodes.size(), options->policy);
  if (gateway.admin_port() != 0)
    log::info("gateway: admin routes on {}:{}", options->admin_address, gateway.admin_port());
  NodeFeed feed(gateway, config);
  if (const Status begun = feed.begin(config); !begun) {
    log::error("gateway: {}", begun.error().message);
    return 2;
  }
  const auto reload_now = [&] {
    const auto fresh = reread ? reread() : Result<Config>(config);
    Status status = fresh ? feed.begin(*fresh) : fail(fresh.error());
    if (status) status = reload(gateway, config, *fresh, feed.kube_nodes());
    if (!status) log::error("gateway: the new configuration is not taken: {}", status.error().message);
  };
  const auto beside = companion ? companion(gateway, metrics) : Result<std::shared_ptr<void>>(nullptr);
  if (!beside) {
    log::error("gateway: {}", beside.error().message);
    return 2;
  }
  wait_for_end(gateway, config, reload_now, [&] {
    if (feed.file_changed()) return reload_now();
    feed.tick();
  });
  return 0;
}

}  // namespace hp::gateway
