// The console over a gateway and its watch: keys, files, and what one asks of the other. Wiring only.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/config.h"
#include "base/metrics.h"
#include "base/result.h"
#include "gateway/gateway.h"
#include "ops/bundle/bundle.h"
#include "ops/console/console.h"
#include "ops/watch.h"

namespace hp::cli {

/// Where whoever wants the history finds the console while there is one: actions are made before it.
struct ConsoleSlot {
  std::mutex mutex;
  ops::Console* console = nullptr;  // under mutex
};

/// While it lives, the gateway answers /console. It must go before the watch and the gateway.
class ConsoleDoor final {
 public:
  /// Null when ops.console is off. The first start makes a key and says in which file it lies.
  static Result<std::unique_ptr<ConsoleDoor>> open(const Config& config, gateway::Gateway& gateway, ops::Watch& watch,
                                                   MetricsRegistry& metrics, std::shared_ptr<ConsoleSlot> slot);
  ~ConsoleDoor();
  ConsoleDoor(const ConsoleDoor&) = delete;
  ConsoleDoor& operator=(const ConsoleDoor&) = delete;

 private:
  ConsoleDoor(gateway::Gateway& gateway, std::unique_ptr<ops::Console> console, std::shared_ptr<ConsoleSlot> slot);
  gateway::Gateway& gateway_;
  std::shared_ptr<ConsoleSlot> slot_;
  std::unique_ptr<ops::Console> console_;
};

/// A diagnostics bundle as an action: configuration, streams, figures, history, stacks and logs of every process of
/// ours on this machine, the target's first (`pid` tells it; may be empty), pages of all nodes; into the folder of ops,
/// of which the newest ten are kept.
ops::Action bundle_action(const Config& config, gateway::Gateway& gateway, const MetricsRegistry& metrics,
                          std::function<pid_t(const std::string& node)> pid, std::shared_ptr<ConsoleSlot> slot);

/// The key that `homeport top` logs in with when none is given; empty: there is none.
std::string default_console_key(const Config& config);

}  // namespace hp::cli
