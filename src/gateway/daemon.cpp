#include "gateway/daemon.h"

#include <pthread.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>
#include <ctime>
#include <string>
#include <thread>

#include "base/log.h"
#include "gateway/gateway_config.h"

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

int run_gateway(const Config& config, const ConfigReader& reread) {
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
  log::info("gateway: listening on {}:{}, {} nodes, policy {}", options->server.address, gateway.port(),
            options->nodes.size(), options->policy);
  const auto reload = [&] {
    auto again = reread ? reread() : Result<Config>(config);
    auto nodes = again ? configured_nodes(*again) : Result<std::vector<NodeConfig>>(fail(again.error()));
    auto tenants = nodes ? configured_tenants(*again) : Result<std::vector<TenantConfig>>(fail(nodes.error()));
    const Status policy = tenants ? gateway.set_policy(again->text("gateway.policy")) : fail(tenants.error());
    if (!policy) return log::error("gateway: the new configuration is not taken: {}", policy.error().message);
    gateway.set_nodes(*nodes);
    gateway.set_tenants(*tenants);
    log::info("gateway: reloaded, {} nodes", nodes->size());
  };
  const std::string& file = config.text("gateway.nodes_file");
  timespec seen = changed_at(file);
  const bool dns = has_dns_nodes(config);
  auto resolved_at = Clock::now();
  wait_for_end(gateway, config, reload, [&] {
    const timespec now = changed_at(file);
    const bool changed = now.tv_sec != seen.tv_sec || now.tv_nsec != seen.tv_nsec;
    seen = now;
    if (changed) return reload();
    if (!dns || Clock::now() - resolved_at < kResolveEvery) return;
    resolved_at = Clock::now();
    if (const auto nodes = configured_nodes(config))  // when names do not resolve, the nodes we know stay
      gateway.set_nodes(*nodes);
  });
  return 0;
}

}  // namespace hp::gateway
