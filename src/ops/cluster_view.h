// What is known of the cluster at one moment, as plain values: the watch makes it once per round, the console, the
// terminal and the history read it. Ratios are 0 to 1; times are milliseconds since 1970 unless named otherwise; an
// empty optional is "not known", never 0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ops/rule.h"

namespace hp::ops {

using Figure = std::optional<double>;

/// Over the last five minutes; empty without a sample.
struct LatencyView {
  Figure p50_s, p90_s, p99_s;
  double per_second = 0;  ///< samples
  std::vector<double> bounds,
      totals;  ///< the histogram since its process began; totals are cumulative, the last is +Inf
};

struct GpuView {
  int index = 0;
  std::string name, uuid;
  Figure temperature_c, memory_used_bytes, memory_total_bytes, power_w, power_limit_w, clock_mhz, memory_clock_mhz,
      utilization, ecc_errors, xid_errors;
  bool throttled = false;
  std::string throttle_reasons;  ///< "sw_thermal, power_cap"
};

struct HostView {
  Figure cpu_ratio, memory_used_bytes, memory_total_bytes, disk_free_bytes, disk_total_bytes, receive_bytes_s,
      send_bytes_s;
};

enum class NodeCondition { ready, loading, draining, held, unreachable, dead };
std::string_view to_string(NodeCondition condition);

struct NodeView {
  std::string name, address, model, device, weights;
  int group = 0;         ///< priority: the lowest with a usable node serves, the others stand by
  bool serving = false;  ///< its group gets the requests now
  NodeCondition condition = NodeCondition::unreachable;
  bool down = false;          ///< as the rule node_down has it: a node that loads or drains is not
  std::int64_t since_ms = 0;  ///< in this condition
  std::int64_t seen_ms = 0;   ///< last successful reading; 0: never
  bool controllable = false;  ///< has admin routes we can reach
  bool has_gpu = false;
  std::vector<GpuView> gpus;
  HostView host;
  Figure running, waiting, kv_usage, tokens_per_s, prompt_tokens_per_s, cache_hit_ratio, failed_step_ratio;
  Figure max_step_tokens, max_running;  ///< in force now
  LatencyView first_token, between_tokens;
};

struct ClusterFigures {
  int nodes = 0, usable_nodes = 0, serving_group = 0;
  Figure requests_per_s, tokens_per_s, prompt_tokens_per_s, open_requests, waiting_requests, kv_usage, cache_hit_ratio;
  Figure timeout_ratio, refusal_ratio, error_ratio, resumes_per_s;
  Figure requests, given_up;     ///< totals since the gateway's start
  LatencyView first_token, gap;  ///< as the clients see it, at the gateway
};

struct AlertView {
  std::string rule, instance;
  Level level = Level::software;
  int incident = 0;
  AlertPhase phase = AlertPhase::inactive;
  double value = 0, threshold = 0;
  std::int64_t since_ms = 0;  ///< in this phase
  std::string en, zh;
};

/// One line of an incident's story.
struct TimelineEntry {
  std::int64_t at_ms = 0;
  std::string kind;    ///< detected, action, undo, notice, note, recovered, closed
  std::string who;     ///< "playbook:level1", "rule:node_down", or a person's name
  std::string action;  ///< of kind action and undo
  std::string target;
  std::string text;
  bool ok = true;
};

enum class IncidentState { open, recovering, closed };
std::string_view to_string(IncidentState state);

struct IncidentView {
  std::int64_t id = 0;
  int level = 1;
  IncidentState state = IncidentState::open;
  std::string rule, instance, en, zh;
  std::int64_t started_ms = 0, ended_ms = 0;  ///< ended 0: goes on
  std::string acknowledged_by;
  std::vector<TimelineEntry> timeline;
};

enum class ActionTarget { cluster, node, group };

struct ActionInfo {
  std::string name;  ///< "restart_node"
  ActionTarget target = ActionTarget::node;
  std::string en, zh;
  std::string argument;  ///< what `argument` means, empty: none
  std::string undo;      ///< the action that takes it back, empty: nothing to take back
  bool allowed = true;   ///< not forbidden by configuration
  bool dangerous = false;
  bool adds = false;  ///< done twice it has twice the effect, and each is taken back by itself
};

struct TenantView {
  std::string name;
  double requests = 0, prompt_tokens = 0, completion_tokens = 0, refusals = 0, timeouts = 0, limited = 0;  ///< totals
};

struct ModelView {
  std::string name;
  int nodes = 0, usable_nodes = 0;
  std::vector<std::string> weights;  ///< variants that nodes hold
};

struct ChannelView {
  std::string name, kind;
  std::uint64_t sent = 0, failed = 0, queued = 0;
  std::string last_error;
};

struct ClusterView {
  std::int64_t at_ms = 0;
  std::int64_t round = 0;  ///< rises by one
  ClusterFigures figures;
  std::vector<NodeView> nodes;
  std::vector<AlertView> alerts;        ///< pending and firing
  std::vector<IncidentView> incidents;  ///< open ones, and those closed within the last hour
  std::vector<ActionInfo> actions;
  std::vector<TenantView> tenants;
  std::vector<ModelView> models;
  std::vector<ChannelView> channels;
  bool store_ok = true;  ///< false: incidents are kept in memory only, the disk fails
  std::string store_error;
};

}  // namespace hp::ops
