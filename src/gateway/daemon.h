// A gateway as a process: runs until a signal, drains, reloads. What `homeport gateway` is.
#pragma once

#include <functional>
#include <memory>

#include "base/config.h"
#include "base/metrics.h"
#include "base/result.h"
#include "gateway/gateway.h"

namespace hp::gateway {

/// Reads the configuration again, from where it came the first time.
using ConfigReader = std::function<Result<Config>()>;

/// Nodes, policy, tenants with their keys and limits, and the certificate, all or nothing; streams go on. `own`: nodes
/// that are not in the configuration. Other keys that differ from `running` are named in the log: they need a restart.
Status reload(Gateway& gateway, const Config& running, const Config& fresh, const std::vector<NodeConfig>& own = {});

/// What runs beside a gateway, made when that has started and destroyed before it ends.
using Companion = std::function<Result<std::shared_ptr<void>>(Gateway& gateway, MetricsRegistry& metrics)>;

/// Blocks. SIGTERM and SIGINT drain (a second one ends at once), SIGHUP reloads. Returns the exit code.
int run_gateway(const Config& config, const ConfigReader& reread = {}, const Companion& companion = {});

/// To be called before any thread is made: the signals that wait_for_end() takes.
void block_signals();
/// Serves until a signal says stop, then drains. `tick` runs a few times a second.
void wait_for_end(Gateway& gateway, const Config& config, const std::function<void()>& on_reload,
                  const std::function<void()>& tick);

}  // namespace hp::gateway
