#include "gateway/daemon.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <ctime>
#include <string>
#include <thread>

#include "base/log.h"
#include "gateway/gateway_config.h"
#include "gateway/node_feed.h"

namespace hp::gateway {
namespace {
using Clock = std::chrono::steady_clock;
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
  nodes.insert(nodes.end(), own.begin(), own.end());
  HP_TRY_VOID(check_names(nodes));
  HP_TRY(const auto tenants, configured_tenants(fresh));
  HP_TRY_VOID(make_policy(fresh.text("gateway.policy")));
  HP_TRY_VOID(gateway.reload_certificate());
  HP_TRY_VOID(gateway.reopen_log());
  HP_TRY_VOID(gateway.set_policy(fresh.text("gateway.policy")));
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
    if (status) status = reload(gateway, config, *fresh, feed.others());
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
