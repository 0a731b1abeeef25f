#include "cli/operations.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "cli/kube_scale.h"
#include "cli/operations_actions.h"
#include "ops/watch_options.h"

namespace hp::cli {

std::vector<ops::KnownNode> known_nodes(const gateway::Gateway& gateway, const FleetControls& fleet) {
  const auto lives = fleet.lives ? fleet.lives() : std::map<std::string, FleetControls::Life>();
  std::vector<ops::KnownNode> out;
  for (const gateway::NodeStatus& s : gateway.nodes()) {
    if (s.removed) continue;
    ops::KnownNode node{.name = s.config.name,
                        .host = s.config.host,
                        .port = s.config.port,
                        .tls = s.config.tls,
                        .api_key = s.config.api_key,
                        .gpu_exporter = s.config.gpu_exporter,
                        .group = s.config.priority,
                        .held = s.held,
                        .serving = s.serving,
                        .controllable = !s.config.admin.empty(),
                        .homeport = s.config.homeport};
    if (s.draining)
      node.condition = ops::NodeCondition::draining;
    else if (!s.ready)
      node.condition = ops::NodeCondition::unreachable;
    else if (s.silent || s.breaker == gateway::BreakerState::open)
      node.condition = ops::NodeCondition::dead;
    else
      node.condition = ops::NodeCondition::ready;
    if (const auto life = lives.find(s.config.name); life != lives.end()) {
      if (!life->second.wanted && !s.ready) continue;  // a place that is not filled
      node.deaths = life->second.deaths;
      node.restarting = life->second.restarting;
    }
    out.push_back(std::move(node));
  }
  return out;
}

Result<std::shared_ptr<Operations>> Operations::start(const Config& config, gateway::Gateway& gateway,
                                                      MetricsRegistry& metrics, FleetControls fleet) {
  auto operations = std::make_shared<Operations>();
  // The gateway's own machine: nodes tell of their GPUs themselves.
  operations->machine_ = std::make_unique<ops::MachineMetrics>(
      ops::MachineOptions{.nvml_library = "", .disk = config.text("machine.disk")}, metrics);
  if (!config.boolean("ops.enabled")) return operations;
  HP_TRY(const ops::WatchOptions options, ops::watch_options(config));
  operations->client_ = net::HttpClient::create();
  if (!config.text("ops.kube_scale").empty()) {
    if (fleet.grow)
      return fail(ErrorCode::invalid_argument,
                  "ops.kube_scale: this process starts nodes of its own; it is for `homeport gateway`");
    HP_TRY(const auto scale, KubeScale::open(config, *operations->client_));
    fleet.grow = [scale](int nodes, bool dry_run) { return scale->change(nodes, dry_run); };
    fleet.shrink = [scale](int nodes, bool dry_run) { return scale->change(-nodes, dry_run); };
  }
  ops::WatchWiring wiring{
      .nodes = [&gateway, fleet] { return known_nodes(gateway, fleet); },
      .gateway_metrics = [&metrics] { return metrics.render(); },
      .actions = cluster_actions(config, gateway, *operations->client_, fleet),
      .losses = [&gateway] { return gateway.losses(); },
  };
  const auto slot = std::make_shared<ConsoleSlot>();
  wiring.actions.push_back(bundle_action(config, gateway, metrics, fleet.pid, slot));
  for (const ops::Action& action : wiring.actions)
    HP_CHECK(std::ranges::find(step_names(), action.info.name) != step_names().end(), "step_names() lacks an action");
  HP_TRY(operations->watch_, ops::Watch::start(options, std::move(wiring), metrics));
  HP_TRY(operations->console_, ConsoleDoor::open(config, gateway, *operations->watch_, metrics, slot));
  log::info("ops: {} rules, {} playbooks ({}), {} channels, incidents in {}", options.rules.size(),
            options.playbooks.playbooks.size(), config.text("ops.playbooks"), options.notices.channels.size(),
            options.database.empty() ? "memory only" : options.database);
  return operations;
}

}  // namespace hp::cli
