// `gateway`: the front of several nodes. All of it is the room gateway's.
#include "cli/command.h"
#include "cli/operations.h"
#include "cli/program.h"
#include "gateway/daemon.h"

namespace hp::cli {

Command gateway_command() {
  return {
      .name = "gateway",
      .summary = "one address in front of several nodes",
      .details =
          "Routes requests to nodes, and carries a stream on at another node when its own dies. Nodes of Homeport are "
          "started with --journal; other OpenAI-compatible servers work without resume.",
      .examples =
          "  homeport gateway --node 127.0.0.1:8001,127.0.0.1:8002\n"
          "  homeport gateway --node 'unix:/run/homeport/node0.sock,big=10.0.0.7:8000;capacity=4'",
      .sections = {"server", "gateway", "ops", "machine", "log"},
      .run = [](const Invocation& in) -> Result<int> {
        const auto reread = [&in]() -> Result<Config> {
          HP_TRY(Config fresh, in.reread());
          HP_TRY_VOID(configure_log(fresh));
          return fresh;
        };
        return gateway::run_gateway(
            in.config, reread,
            [&in](gateway::Gateway& gateway, MetricsRegistry& metrics) -> Result<std::shared_ptr<void>> {
              HP_TRY(std::shared_ptr<void> operations, Operations::start(in.config, gateway, metrics));
              return operations;
            });
      },
  };
}

}  // namespace hp::cli
