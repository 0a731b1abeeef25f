#include "cli/serve_fleet.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/log.h"
#include "cli/node_flags.h"
#include "cli/program.h"
#include "fleet/fleet.h"
#include "gateway/daemon.h"
#include "gateway/gateway_config.h"
#include "model/checkpoint.h"

namespace hp::cli {
namespace {

constexpr int kHopelessDeaths = 5;
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
    const bool theirs = key.name.starts_with("model.") || key.name.starts_with("engine.") || key.name == "log.level" ||
                        key.name == "log.format" || key.name == "server.max_body_bytes" ||
                        key.name == "server.request_timeout_ms" || key.name == "server.drain_ms";
    if (!theirs || key.name == "model.path" || config.source(key.name) == ConfigSource::default_value) continue;
    command.push_back(fmt::format("--{}={}", key.flag, config.shown(key.name)));
  }
  return command;
}

}  // namespace

Result<int> serve_fleet(const Invocation& in) {
  const auto count = in.config.integer("fleet.nodes");
  RunFolder folder;
  HP_TRY_VOID(folder.make());
  HP_TRY(const auto base_command, node_command(in.config));
  HP_TRY(const auto model, model_path(in.config));
  HP_TRY_VOID(Checkpoint::open(model));  // a damaged model is said once, here, and not by each node
  HP_TRY(gateway::GatewayOptions options, gateway::gateway_options(in.config));
  options.merge_node_metrics = true;
  std::vector<fleet::ChildSpec> children;
  std::vector<gateway::NodeConfig> own;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string name = fmt::format("node{}", i);
    const std::string address = fmt::format("unix:{}", (folder.path / (name + ".sock")).string());
    auto command = base_command;
    command.insert(command.end(), {"--host", address, "--api-keys-file", ""});
    children.push_back({.name = name, .command = std::move(command)});
    own.push_back({.name = name, .host = address, .concurrent = in.config.integer("engine.max_running")});
  }
  options.nodes.insert(options.nodes.end(), own.begin(), own.end());
  gateway::block_signals();
  MetricsRegistry metrics;
  SteadyClock clock;
  HP_TRY(const auto front, gateway::Gateway::start(options, metrics));
  fleet::Fleet nodes(std::move(children), clock, metrics);
  nodes.tick();
  const std::string address = shown_address(options.server, front->port());
  log::info("serve: {} over {} nodes", address, count);
  bool said_ready = false, hopeless = false;
  const auto reload = [&] {
    const auto fresh = in.reread();
    Status status = fresh ? configure_log(*fresh) : fail(fresh.error());
    if (status) status = gateway::reload(*front, in.config, *fresh, own);
    if (!status) log::error("reload: {}; nothing was changed", status.error().message);
  };
  gateway::wait_for_end(*front, in.config, reload, [&] {
    nodes.tick();
    if (!std::exchange(said_ready, said_ready || front->usable_nodes() > 0) && front->usable_nodes() > 0)
      log::info("ready: {} serves {}", address, model.stem().string());
    if (!said_ready && !hopeless && (nodes.hopeless(kHopelessDeaths) || nodes.gave_up())) {
      hopeless = true;
      log::error("serve: no node has ever become ready; the cause stands in their log lines above");
      ::kill(::getpid(), SIGTERM);
    }
  });
  nodes.stop(kNodePatience);
  return hopeless ? kExitFailure : kExitOk;
}

}  // namespace hp::cli
