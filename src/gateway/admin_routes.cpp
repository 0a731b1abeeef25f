#include "gateway/admin_routes.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>

#include "base/json.h"
#include "base/log.h"
#include "gateway/answers.h"

namespace hp::gateway {
namespace {

std::string_view name_of(BreakerState state) {
  if (state == BreakerState::open) return "open";
  return state == BreakerState::closed ? "closed" : "half open";
}

// No key of a node: who may see this page may not need them.
std::string nodes_json(const Core& core) {
  std::string body;
  JsonWriter w(body);
  w.begin_object().member("waiting_requests", static_cast<std::uint64_t>(core.queue.size()));
  w.key("nodes").begin_array();
  for (const NodeStatus& node : core.nodes.status()) {
    const NodeConfig& c = node.config;
    w.begin_object().member("name", c.name);
    w.member("address", c.host.starts_with("unix:") ? c.host : fmt::format("{}:{}", c.host, c.port));
    w.member("tls", c.tls).member("homeport", c.homeport).member("priority", c.priority);
    w.member("capacity", c.capacity).member("concurrent", c.concurrent);
    w.member("ready", node.ready).member("draining", node.draining).member("held", node.held);
    w.member("removed", node.removed).member("breaker", name_of(node.breaker));
    w.member("requests", node.requests).member("load_tokens", node.load_tokens);
    w.member("stall_bound_ms", node.stall_bound_ms).end_object();
  }
  w.end_array().end_object();
  return body;
}

net::HttpResponse set_log_level(const std::string& target) {
  constexpr std::array<std::string_view, 6> kLevels{"trace", "debug", "info", "warn", "error", "off"};
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    if (!target.ends_with(fmt::format("?level={}", kLevels[i]))) continue;
    log::set_level(static_cast<log::Level>(i));
    return {.headers = {}, .body = fmt::format(R"({{"level":"{}"}})", kLevels[i])};
  }
  return error_answer(400, "expected ?level= with trace, debug, info, warn, error or off");
}

net::HttpResponse hold_node(Core& core, std::string_view path) {
  constexpr std::string_view kNodes = "/admin/nodes/";
  const bool hold = path.ends_with("/drain");
  const std::string_view name =
      path.substr(kNodes.size(), path.size() - kNodes.size() - std::string_view(hold ? "/drain" : "/undrain").size());
  if (!core.nodes.hold(name, hold)) return error_answer(404, fmt::format("there is no node '{}'", name));
  return {.status = 202, .headers = {}, .body = hold ? R"({"status":"draining"})" : R"({"status":"taken back"})"};
}

// The process's own signals do the work: there is one way to reload and to end.
net::HttpResponse raise(int signal, std::string_view status) {
  ::kill(::getpid(), signal);
  return {.status = 202, .headers = {}, .body = fmt::format(R"({{"status":"{}"}})", status)};
}

}  // namespace

void admin_route(Core& core, const net::HttpRequest& request, net::ResponseWriter& writer) {
  const std::string& path = request.path;
  if (!request.header("origin").empty()) return writer.send(error_answer(403, "no web page may do this"));
  if (request.method == "GET" && path == "/admin/nodes") return writer.send({.headers = {}, .body = nodes_json(core)});
  if (request.method == "POST") {
    if (path.starts_with("/admin/nodes/") && (path.ends_with("/drain") || path.ends_with("/undrain")))
      return writer.send(hold_node(core, path));
    if (path == "/admin/reload") return writer.send(raise(SIGHUP, "reloading"));
    if (path == "/admin/drain") return writer.send(raise(SIGTERM, "draining"));
    if (path == "/admin/log") return writer.send(set_log_level(request.target));
  }
  writer.send(error_answer(404,
                           "expected GET /admin/nodes, or POST to /admin/nodes/NAME/drain, /admin/nodes/NAME/undrain, "
                           "/admin/reload, /admin/drain or /admin/log?level="));
}

}  // namespace hp::gateway
