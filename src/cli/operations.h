// The watch as this program has it: which nodes there are, and what each action does to the gateway, the nodes and the
// fleet. Wiring only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/config.h"
#include "base/metrics.h"
#include "base/result.h"
#include "cli/console_wiring.h"
#include "gateway/gateway.h"
#include "net/http_client.h"
#include "ops/collect/machine_metrics.h"
#include "ops/watch.h"

namespace hp::cli {

/// What a fleet of local nodes can do; empty functions where there is none. Each may block and comes from any thread.
struct FleetControls {
  std::function<Status(const std::string& node, bool hard)> restart;
  struct Change {
    int nodes = 0;     ///< so many more, or fewer
    std::string text;  ///< what was done
  };
  std::function<Result<Change>(int nodes, bool dry_run)> grow, shrink;
  std::function<pid_t(const std::string& node)> pid;  ///< -1: not running, or not ours
  struct Life {
    std::uint64_t deaths = 0;
    bool restarting = false;
    bool wanted = true;  ///< false: its process is not to run
  };
  std::function<std::map<std::string, Life>()> lives;
};

class Operations {
 public:
  /// The gateway and the registry must outlive this.
  static Result<std::shared_ptr<Operations>> start(const Config& config, gateway::Gateway& gateway,
                                                   MetricsRegistry& metrics, FleetControls fleet = {});
  [[nodiscard]] ops::Watch& watch() { return *watch_; }

 private:
  std::unique_ptr<ops::MachineMetrics> machine_;
  std::unique_ptr<net::HttpClient> client_;
  std::unique_ptr<ops::Watch> watch_;
  std::unique_ptr<ConsoleDoor> console_;  // last: it looks at the watch
};

/// The nodes as the watch wants them.
std::vector<ops::KnownNode> known_nodes(const gateway::Gateway& gateway, const FleetControls& fleet);

}  // namespace hp::cli
