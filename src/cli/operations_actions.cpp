#include "cli/operations_actions.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/json.h"

namespace hp::cli {
namespace {

using gateway::NodeStatus;
using ops::ActionOutcome;
using ops::ActionRequest;

constexpr std::int32_t kLeastStepTokens = 16, kLeastRunning = 1;
constexpr std::chrono::milliseconds kAdminTimeout{3'000};

ActionOutcome failed(std::string text) {
  return {.ok = false, .changed = false, .text = std::move(text), .undo_argument = {}};
}
ActionOutcome nothing(std::string text) {
  return {.ok = true, .changed = false, .text = std::move(text), .undo_argument = {}};
}
ActionOutcome done(std::string text, std::string undo_argument = {}) {
  return {.ok = true, .changed = true, .text = std::move(text), .undo_argument = std::move(undo_argument)};
}

bool usable(const NodeStatus& s) {
  return s.ready && !s.draining && !s.removed && !s.held && !s.silent && s.breaker != gateway::BreakerState::open;
}

const NodeStatus* find(const std::vector<NodeStatus>& nodes, const std::string& name) {
  const auto found =
      std::ranges::find_if(nodes, [&](const NodeStatus& s) { return !s.removed && s.config.name == name; });
  return found == nodes.end() ? nullptr : &*found;
}

/// Takes a node out of the routing. Its streams leave, and when its group has nobody left, the next group serves.
ActionOutcome hold(gateway::Gateway& gateway, const ActionRequest& r) {
  const auto nodes = gateway.nodes();
  const NodeStatus* node = find(nodes, r.target);
  if (node == nullptr) return failed("there is no node " + r.target);
  if (node->held) return nothing("it gets no requests already");
  const auto other = [&](bool same_group) {
    return std::ranges::count_if(nodes, [&](const NodeStatus& s) {
      return s.config.name != r.target && usable(s) && (!same_group || s.config.priority == node->config.priority);
    });
  };
  if (other(false) == 0) return nothing("no other node could take its requests: it stays");
  std::string text = fmt::format("group {} goes on with {} nodes", node->config.priority, other(true));
  if (other(true) == 0) {
    std::optional<int> next;
    for (const NodeStatus& s : nodes)
      if (s.config.name != r.target && usable(s) && (!next || s.config.priority < *next)) next = s.config.priority;
    text = fmt::format("group {} has nobody left: group {} takes the requests", node->config.priority, *next);
  }
  if (!r.dry_run) gateway.hold_node(r.target, true);
  return done(std::move(text));
}

ActionOutcome release(gateway::Gateway& gateway, const ActionRequest& r) {
  const auto nodes = gateway.nodes();
  const NodeStatus* node = find(nodes, r.target);
  if (node == nullptr) return nothing("there is no node " + r.target + " any more");
  if (!node->held) return nothing("it gets requests already");
  if (!r.dry_run) gateway.hold_node(r.target, false);
  return done("it gets requests again");
}

std::optional<int> number(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() ? std::optional(value)
                                                                                   : std::nullopt;
}

ActionOutcome switch_group(gateway::Gateway& gateway, const ActionRequest& r) {
  const auto group = number(r.argument);
  if (!group) return failed("expected a group's number, found '" + r.argument + "'");
  const auto nodes = gateway.nodes();
  if (std::ranges::none_of(nodes, [&](const NodeStatus& s) { return usable(s) && s.config.priority == *group; }))
    return failed(fmt::format("group {} has no usable node", *group));
  gateway::NodeTable::Steering steering = gateway.steering();
  const std::string before = steering.prefer ? std::to_string(*steering.prefer) : "";
  steering.prefer = group;
  if (!r.dry_run) gateway.steer(steering);
  return done(fmt::format("group {} takes the requests", *group), before);
}

ActionOutcome restore_group(gateway::Gateway& gateway, const ActionRequest& r) {
  gateway::NodeTable::Steering steering = gateway.steering();
  steering.prefer = number(r.argument);
  if (!r.dry_run) gateway.steer(steering);
  return done(steering.prefer ? fmt::format("group {} is preferred again", *steering.prefer)
                              : "the groups serve in their order again");
}

/// Nodes of another group, with a quantized variant or simply standing by, take part beside the serving ones.
ActionOutcome use_variant(gateway::Gateway& gateway, std::int64_t configured, const ActionRequest& r) {
  const auto nodes = gateway.nodes();
  gateway::NodeTable::Steering steering = gateway.steering();
  if (steering.beside) return nothing(fmt::format("group {} takes part already", *steering.beside));
  std::optional<int> group;
  for (const NodeStatus& s : nodes) {
    const bool fits = configured < 0 ? !s.serving : s.config.priority == configured;
    if (usable(s) && fits && (!group || s.config.priority < *group)) group = s.config.priority;
  }
  if (!group)
    return failed(configured < 0 ? "no other group has a usable node"
                                 : fmt::format("group {} (ops.variant_group) has no usable node", configured));
  const auto count =
      std::ranges::count_if(nodes, [&](const NodeStatus& s) { return usable(s) && s.config.priority == *group; });
  steering.beside = group;
  if (!r.dry_run) gateway.steer(steering);
  return done(fmt::format("the {} nodes of group {} take part", count, *group));
}

ActionOutcome drop_variant(gateway::Gateway& gateway, const ActionRequest& r) {
  gateway::NodeTable::Steering steering = gateway.steering();
  if (!steering.beside) return nothing("no other group takes part");
  const int group = *steering.beside;
  steering.beside.reset();
  if (!r.dry_run) gateway.steer(steering);
  return done(fmt::format("group {} stands by again", group));
}

/// GET or POST of a node's admin routes.
Result<JsonValue> admin(net::HttpClient& client, const std::string& address, const std::string& method,
                        const std::string& target) {
  net::ClientRequest request{.method = method, .host = address, .target = target};
  if (!address.starts_with("unix:")) {
    const auto colon = address.rfind(':');
    const auto port = colon == std::string::npos ? std::nullopt : number(address.substr(colon + 1));
    if (!port) return fail(ErrorCode::invalid_argument, "its admin address '{}' has no port", address);
    request.host = address.substr(0, colon);
    request.port = static_cast<std::uint16_t>(*port);
  }
  request.connect_timeout = request.read_timeout = kAdminTimeout;
  request.keep_alive = false;
  HP_TRY(const net::HttpResponse answer, client.fetch(std::move(request)));
  if (answer.status != 200) return fail(ErrorCode::unavailable, "it answers {}: {}", answer.status, answer.body);
  return JsonValue::parse(answer.body);
}

/// `argument`: a number, or "x0.5" for a share of what is in force.
ActionOutcome set_limit(gateway::Gateway& gateway, net::HttpClient& client, std::string_view key, std::int32_t least,
                        const ActionRequest& r) {
  const auto nodes = gateway.nodes();
  const NodeStatus* node = find(nodes, r.target);
  if (node == nullptr) return failed("there is no node " + r.target);
  if (node->config.admin.empty()) return failed("its admin routes are not known: add admin= to its entry");
  const auto now = admin(client, node->config.admin, "GET", "/admin/limits");
  if (!now) return failed(now.error().message);
  const JsonValue* value = now->find(key);
  const std::int64_t before = value != nullptr ? value->as_int().value_or(0) : 0;
  std::int64_t wanted = 0;
  if (r.argument.starts_with("x")) {
    double share = 0;
    std::from_chars(r.argument.data() + 1, r.argument.data() + r.argument.size(), share);
    wanted = std::llround(static_cast<double>(before) * share);
  } else {
    wanted = number(r.argument).value_or(0);
  }
  if (before <= 0 || wanted <= 0) return failed(fmt::format("{} {} -> '{}' makes no sense", key, before, r.argument));
  wanted = std::max<std::int64_t>(wanted, std::min<std::int64_t>(least, before));
  if (wanted == before) return nothing(fmt::format("{} is {} already", key, before));
  if (!r.dry_run) {
    const auto set = admin(client, node->config.admin, "POST", fmt::format("/admin/limits?{}={}", key, wanted));
    if (!set) return failed(set.error().message);
    if (const JsonValue* is = set->find(key); is != nullptr) wanted = is->as_int().value_or(wanted);
  }
  return done(fmt::format("{} {} -> {}", key, before, wanted), std::to_string(before));
}

ActionOutcome restart(gateway::Gateway& gateway, net::HttpClient& client, const FleetControls& fleet,
                      const ActionRequest& r) {
  const auto nodes = gateway.nodes();
  const NodeStatus* node = find(nodes, r.target);
  if (node == nullptr) return failed("there is no node " + r.target);
  if (!fleet.restart)
    return failed("this gateway did not start the node: its supervisor (systemd, Kubernetes) has to restart it");
  const pid_t pid = fleet.pid(r.target);
  if (pid < 0) return nothing("the fleet is starting it already");
  // Asked directly: the gateway's own picture of a node that hangs is seconds old. One that answers may finish what it
  // has, and for a playbook it is the new process of one that died.
  const bool answers = admin(client, node->config.admin, "GET", "/admin/stats").has_value();
  if (answers && r.who.starts_with("playbook:")) return nothing(fmt::format("process {} is new and answers", pid));
  if (!r.dry_run)
    if (const Status status = fleet.restart(r.target, !answers); !status) return failed(status.error().message);
  return done(fmt::format("process {} is ended{} and started anew", pid, answers ? " in order" : " at once"));
}

ActionOutcome scale(const std::function<Result<FleetControls::Change>(int, bool)>& change, const ActionRequest& r) {
  const int count = number(r.argument).value_or(1);
  if (count < 1 || count > 64) return failed("expected a number of nodes from 1 to 64");
  if (!change) return failed("there is no fleet here that could start or end nodes");
  const auto changed = change(count, r.dry_run);
  return changed ? done(changed->text, std::to_string(changed->nodes)) : failed(changed.error().message);
}

ops::ActionInfo info(std::string name, ops::ActionTarget target, std::string en, std::string zh, std::string undo = {},
                     std::string argument = {}, bool dangerous = false, bool adds = false) {
  return {.name = std::move(name),
          .target = target,
          .en = std::move(en),
          .zh = std::move(zh),
          .argument = std::move(argument),
          .undo = std::move(undo),
          .allowed = true,
          .dangerous = dangerous,
          .adds = adds};
}

}  // namespace

std::span<const std::string_view> step_names() {
  static constexpr std::array<std::string_view, 16> kNames{
      "move_traffic", "return_traffic", "hold_node",       "release_node",    "switch_group", "restore_group",
      "use_variant",  "drop_variant",   "set_step_tokens", "set_max_running", "restart_node", "scale_out",
      "scale_in",     "bundle",         "notice",          "verify"};
  return kNames;
}

std::vector<ops::Action> cluster_actions(const Config& config, gateway::Gateway& gateway, net::HttpClient& client,
                                         const FleetControls& fleet) {
  using enum ops::ActionTarget;
  gateway::Gateway* g = &gateway;
  net::HttpClient* c = &client;
  const std::int64_t variant = config.integer("ops.variant_group");
  const auto limit = [g, c](std::string key, std::int32_t least) {
    return [g, c, key = std::move(key), least](const ActionRequest& r) { return set_limit(*g, *c, key, least, r); };
  };
  const auto on_gateway = [g](ActionOutcome (*act)(gateway::Gateway&, const ActionRequest&)) {
    return [g, act](const ActionRequest& r) { return act(*g, r); };
  };
  return {
      {info("move_traffic", node, "Move its requests and streams to others", "将其请求和流转移到其他节点",
            "return_traffic"),
       on_gateway(hold)},
      {info("return_traffic", node, "Give it requests again", "恢复向其分配请求", "move_traffic"), on_gateway(release)},
      {info("hold_node", node, "No new requests; its streams move", "不再分配新请求，迁移其流", "release_node"),
       on_gateway(hold)},
      {info("release_node", node, "Give it requests again", "恢复向其分配请求", "hold_node"), on_gateway(release)},
      {info("switch_group", cluster, "Another group takes the requests", "切换到另一组节点", "restore_group", "group",
            true),
       on_gateway(switch_group)},
      {info("restore_group", cluster, "The groups serve in their order", "恢复节点组的默认顺序", "", "group"),
       on_gateway(restore_group)},
      {info("use_variant", cluster, "A second node set takes part", "启用量化或备用节点组分担请求", "drop_variant"),
       [g, variant](const ActionRequest& r) { return use_variant(*g, variant, r); }},
      {info("drop_variant", cluster, "The second node set stands by again", "备用节点组恢复待命", "use_variant"),
       on_gateway(drop_variant)},
      {info("set_step_tokens", node, "Tokens of one step", "每步词元数", "set_step_tokens", "number or x0.5"),
       limit("max_step_tokens", kLeastStepTokens)},
      {info("set_max_running", node, "Sequences at once", "同时生成的序列数", "set_max_running", "number or x0.5"),
       limit("max_running", kLeastRunning)},
      {info("restart_node", node, "Start its process anew", "重启节点进程", "", "", true),
       [g, c, fleet](const ActionRequest& r) { return restart(*g, *c, fleet, r); }},
      {info("scale_out", cluster, "More nodes", "增加节点", "scale_in", "number", false, true),
       [fleet](const ActionRequest& r) { return scale(fleet.grow, r); }},
      {info("scale_in", cluster, "Fewer nodes", "减少节点", "", "number", true),
       [fleet](const ActionRequest& r) { return scale(fleet.shrink, r); }},
  };
}

}  // namespace hp::cli
