#include "cli/serve_fleet.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/log.h"
#include "cli/fleet_desk.h"
#include "cli/fleet_scaler.h"
#include "cli/node_flags.h"
#include "cli/operations.h"
#include "cli/program.h"
#include "fleet/fleet.h"
#include "gateway/daemon.h"
#include "gateway/gateway_config.h"
#include "gateway/node_feed.h"
#include "model/checkpoint.h"

namespace hp::cli {
namespace {

constexpr int kHopelessDeaths = 5;
constexpr double kAnyLoad = 1e3;       // requests/s: the law then looks at queue, slots and latency alone
constexpr double kGuessedWarmup = 30;  // seconds, until the first node has shown how long it takes
constexpr std::chrono::seconds kNodePatience{35};

// Sockets and the nodes' configuration, for this run only.
struct RunFolder {
  std::filesystem::path path;
  RunFolder() = default;
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder() {
    std::error_code ignored;
    if (!path.empty()) std::filesystem::remove_all(path, ignored);
  }
  Status make() {
    std::string name = (std::filesystem::temp_directory_path() / "homeport-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      return fail(ErrorCode::io_error, "cannot make a folder for the nodes' sockets like {}", name);
    path = name;
    return {};
  }
};

std::string shown_address(const net::ServerOptions& server, std::uint16_t port) {
  if (server.address.starts_with("unix:")) return server.address;
  return fmt::format("{}://{}:{}", server.tls ? "https" : "http",
                     server.address == "0.0.0.0" ? "127.0.0.1" : server.address, port);
}

// What the nodes share with this process: every key of theirs that is not at its default, as flags.
Result<std::vector<std::string>> node_command(const Config& config) {
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return fail(ErrorCode::io_error, "cannot find the path of this program: {}", error.message());
  HP_TRY(const auto model, model_path(config));
  std::vector<std::string> command{program, "node", "--journal=true", "--model", model.string(), "--access-log=false"};
  for (const ConfigKey& key : config_keys()) {
    const bool theirs = key.name.starts_with("model.") || key.name.starts_with("engine.") ||
                        key.name.starts_with("machine.") || key.name == "log.level" || key.name == "log.format" ||
                        key.name == "server.max_body_bytes" || key.name == "server.request_timeout_ms" ||
                        key.name == "server.drain_ms";
    if (!theirs || key.name == "model.path" || config.source(key.name) == ConfigSource::default_value) continue;
    command.push_back(fmt::format("--{}={}", key.flag, config.shown(key.name)));
  }
  return command;
}

Result<planner::ScalingPolicy> scaling_policy(const Config& config) {
  const auto least = config.integer("fleet.nodes"), most = config.integer("fleet.nodes_max");
  if (most > 0 && most < least)
    return fail(ErrorCode::invalid_argument,
                "fleet.nodes_max: expected 0 or at least fleet.nodes = {}, found {}; the nearest that works is {}",
                least, most, least);
  const double per_minute = static_cast<double>(config.integer("fleet.node_requests_per_minute"));
  const double quiet = static_cast<double>(config.integer("fleet.quiet_s"));
  return planner::ScalingPolicy{.min_replicas = static_cast<int>(least),
                                .max_replicas = static_cast<int>(std::max(least, most)),
                                .replica_rps = per_minute > 0 ? per_minute / 60 : kAnyLoad,
                                .ttft_target_s = static_cast<double>(config.integer("fleet.ttft_target_ms")) / 1000,
                                .warmup_s = kGuessedWarmup,
                                .down_window_s = quiet,
                                .down_step_s = std::min(60.0, quiet)};
}

/// One of our own: a further node from a list may have other models.
bool one_is_ready(const gateway::Gateway& front, const std::vector<gateway::NodeConfig>& own) {
  return std::ranges::any_of(front.nodes(), [&](const gateway::NodeStatus& status) {
    return status.ready && !status.draining &&
           std::ranges::any_of(own, [&](const auto& node) { return node.name == status.config.name; });
  });
}

Status check_standby(const Config& config) {
  if (config.integer("fleet.standby") < config.integer("fleet.nodes")) return {};
  return fail(ErrorCode::invalid_argument, "fleet.standby: {} of {} nodes would stand by; at least one has to serve",
              config.integer("fleet.standby"), config.integer("fleet.nodes"));
}

/// Asks the law and tells the fleet.
class Scaling {
 public:
  Scaling(bool on, const planner::ScalingPolicy& policy, double sequences_per_node, const Clock& clock)
      : on_(on && policy.max_replicas > policy.min_replicas),
        clock_(clock),
        started_(clock.now()),
        scaler_(policy, sequences_per_node) {}

  /// `least`: not fewer, whatever the law says.
  void tick(const gateway::Gateway& front, const std::vector<gateway::NodeConfig>& own, fleet::Fleet& nodes,
            std::size_t least) {
    if (!on_) return;
    FleetScaler::Nodes view{.wanted = static_cast<int>(nodes.wanted())};
    for (const gateway::NodeStatus& status : front.nodes()) {
      const bool ours = std::ranges::any_of(own, [&](const auto& node) { return node.name == status.config.name; });
      if (!ours || !status.ready || status.draining) continue;
      ++view.ready;
      view.requests += static_cast<double>(status.requests);
    }
    if (view.ready == 0) return;  // the first one still loads
    if (!std::exchange(warm_, true)) scaler_.warmed_up_in(clock_.now() - started_);
    const std::optional<int> want = scaler_.decide(clock_.now(), front.load(), view);
    if (!want || (*want < view.wanted && static_cast<std::size_t>(*want) < least)) return;
    const planner::ScalingSignals& s = scaler_.signals();
    log::info(
        "fleet: {} nodes instead of {}: {:.1f} requests/s, {:.0f} waiting, slots {:.0f} % full, first token p99 {:.2f} "
        "s",
        *want, view.wanted, s.arrivals_per_s, s.queued, 100 * s.kv_usage, s.ttft_p99_s);
    nodes.want(static_cast<std::size_t>(*want));
  }

 private:
  bool on_, warm_ = false;
  const Clock& clock_;
  TimePoint started_;
  FleetScaler scaler_;
};

}  // namespace

Result<int> serve_fleet(const Invocation& in) {
  HP_TRY(const planner::ScalingPolicy policy, scaling_policy(in.config));
  const int count = policy.max_replicas;
  RunFolder folder;
  HP_TRY_VOID(folder.make());
  HP_TRY(const auto base_command, node_command(in.config));
  HP_TRY(const auto model, model_path(in.config));
  HP_TRY_VOID(Checkpoint::open(model));  // a damaged model is said once, here, and not by each node
  HP_TRY(gateway::GatewayOptions options, gateway::gateway_options(in.config));
  options.merge_node_metrics = true;
  std::vector<fleet::ChildSpec> children;
  std::vector<gateway::NodeConfig> own;
  HP_TRY_VOID(check_standby(in.config));
  const LocalNodes local(in.config, folder.path, base_command);
  for (int i = 0; i < count; ++i) {
    const std::int64_t from_end = policy.min_replicas - i;  // those that the law adds serve
    const bool standby = from_end > 0 && from_end <= in.config.integer("fleet.standby");
    children.push_back(local.child(i));
    own.push_back(local.node(i, standby ? 1 : 0));
  }
  options.nodes.insert(options.nodes.end(), own.begin(), own.end());
  HP_TRY_VOID(gateway::check_names(options.nodes));
  gateway::block_signals();
  MetricsRegistry metrics;
  SteadyClock clock;
  HP_TRY(const auto front, gateway::Gateway::start(options, metrics));
  fleet::Fleet nodes(std::move(children), clock, metrics);
  nodes.want(static_cast<std::size_t>(policy.min_replicas));
  Scaling scaling(in.config.boolean("fleet.scaling_law"), policy,
                  static_cast<double>(in.config.integer("engine.max_running")), clock);
  nodes.tick();
  FleetDesk desk(nodes, static_cast<std::size_t>(policy.min_replicas));
  HP_TRY(auto operations, Operations::start(in.config, *front, metrics, desk.controls()));
  const std::string address = shown_address(options.server, front->port());
  log::info("serve: {} over {} nodes", address, policy.min_replicas);
  gateway::NodeFeed feed(*front, in.config, own);
  HP_TRY_VOID(feed.begin(in.config));
  bool said_ready = false, hopeless = false;
  const auto reload = [&] {
    const auto fresh = in.reread();
    Status status = fresh ? configure_log(*fresh) : fail(fresh.error());
    if (status) status = feed.begin(*fresh);
    if (status) status = gateway::reload(*front, in.config, *fresh, feed.others());
    if (!status) log::error("reload: {}; nothing was changed", status.error().message);
  };
  gateway::wait_for_end(*front, in.config, reload, [&] {
    if (feed.file_changed())
      reload();
    else
      feed.tick();
    desk.with_fleet([&] {
      nodes.tick();
      scaling.tick(*front, own, nodes, desk.floor());
    });
    if (!said_ready && one_is_ready(*front, own)) {
      said_ready = true;
      log::info("ready: {} serves {}", address, model.stem().string());
    }
    if (!said_ready && !hopeless && (nodes.hopeless(kHopelessDeaths) || nodes.gave_up())) {
      hopeless = true;
      log::error("serve: no node has ever become ready; the cause stands in their log lines above");
      ::kill(::getpid(), SIGTERM);
    }
  });
  operations.reset();
  nodes.stop(kNodePatience);
  return hopeless ? kExitFailure : kExitOk;
}

}  // namespace hp::cli
