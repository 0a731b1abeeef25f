// `serve` and `node`: one node in this process.
#include <cstdio>
#include <memory>
#include <string>

#include "base/log.h"
#include "cli/command.h"
#include "cli/node_flags.h"
#include "cli/program.h"
#include "cli/serve_fleet.h"
#include "cli/shutdown_signals.h"
#include "ops/collect/machine_metrics.h"

namespace hp::cli {
namespace {

struct ServeOptions {
  bool print_config = false;
  std::string model;
};

std::string address_of(const NodeOptions& options, std::uint16_t port) {
  if (options.address.starts_with("unix:")) return options.address;
  return fmt::format("{}://{}:{}", options.tls ? "https" : "http",
                     options.address == "0.0.0.0" ? "127.0.0.1" : options.address, port);
}

/// What is safe to change while serving: the log, and the certificate's files are read again. Any other key that
/// differs needs a restart, and this says so.
void reload(const Invocation& in, net::TlsIdentity* tls, NodeServer& server) {
  const Result<Config> fresh = in.reread();
  Status status = fresh ? configure_log(*fresh) : fail(fresh.error());
  if (status && tls != nullptr) status = tls->reload();
  if (status) status = server.reopen_log();
  if (!status) return log::error("reload: {}; nothing was changed", status.error().message);
  std::string others;
  for (const ConfigKey& key : config_keys())
    if (!key.name.starts_with("log.") && fresh->shown(key.name) != in.config.shown(key.name))
      others += fmt::format("{}{}", others.empty() ? "" : ", ", key.name);
  log::info("reload: log settings{} are in force{}", tls != nullptr ? " and the certificate" : "",
            others.empty() ? "" : fmt::format("; these need a restart: {}", others));
}

Result<int> serve(const Invocation& in) {
  HP_TRY(const NodeOptions options, node_options(in.config));
  ShutdownSignals signals;
  HP_TRY(const std::unique_ptr<NodeServer> server, start_node(options));
  // Of this machine, on the node's own /metrics; a GPU's driver that hangs delays nobody.
  const ops::MachineMetrics machine(
      {.nvml_library = in.config.text("machine.nvml"), .disk = in.config.text("machine.disk")}, server->metrics());
  const std::string address = address_of(options, server->port());
  log::info("{}ready: {} serves {}", options.journal ? "node " : "", address, server->model_name());
  signals.on_drain([&server] { server->begin_drain(); });
  signals.on_reload([&in, &server, tls = options.tls] { reload(in, tls.get(), *server); });
  const Status ended = server->wait();
  signals.clear();
  if (!ended) return fail(ended.error());
  return kExitOk;
}

Command serving_command(std::string_view name) {
  auto options = std::make_shared<ServeOptions>();
  return {
      .name = name,
      .sections = name == "serve" ? std::vector<std::string_view>{"server", "model", "engine", "fleet", "gateway",
                                                                  "ops", "machine", "log"}
                                  : std::vector<std::string_view>{"server", "model", "engine", "machine", "log"},
      .declare =
          [options](Arguments& a) {
            a.positional("MODEL", options->model,
                         "The same as --model: a file, a folder, a catalog name or ORG/NAME[:PATTERN].", false);
            a.toggle("--print-config", options->print_config, "Print the annotated configuration file and end.");
          },
      .run = [options, name](const Invocation& in) -> Result<int> {
        if (options->print_config) {
          std::fputs(annotated_config().c_str(), stdout);
          return kExitOk;
        }
        HP_TRY(const Config config, with_model(in.config, options->model));
        const Invocation named{config, [&in, options]() -> Result<Config> {
                                 HP_TRY(const Config fresh, in.reread());
                                 return with_model(fresh, options->model);
                               }};
        return name == "serve" && config.integer("fleet.nodes") > 0 ? serve_fleet(named) : serve(named);
      },
  };
}

}  // namespace

Command serve_command() {
  Command command = serving_command("serve");
  command.summary = "serve a model over HTTP (OpenAI-compatible)";
  command.details =
      "Answers on http://HOST:PORT/v1: a gateway over a node process of its own that loads the model, so that an "
      "engine "
      "that dies is started again and its streams go on. SIGTERM or Ctrl-C lets requests in progress finish; a second "
      "one ends at once.";
  command.examples =
      "  homeport serve deepseek-r1:1.5b    (fetched first, when it is not here)\n"
      "  homeport serve --model model.gguf\n"
      "  homeport serve --model model.gguf --host 0.0.0.0 --port 8080 --api-keys-file keys.txt\n"
      "  homeport serve --model model.gguf --nodes 2    (streams go on at the second node when one dies)\n"
      "  homeport serve --print-config > homeport.toml; homeport serve --config homeport.toml";
  return command;
}

Command node_command() {
  Command command = serving_command("node");
  command.summary = "one inference server, as a gateway drives it";
  command.details = "One complete inference server. Behind a gateway, start it with --journal on a loopback address.";
  command.examples =
      "  homeport node --model model.gguf --port 8001 --journal\n"
      "  homeport node --model model.gguf --host unix:/run/homeport/node0.sock --journal";
  return command;
}

}  // namespace hp::cli
