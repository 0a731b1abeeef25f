// The watch: reads every source once a round, evaluates the rules, keeps incidents, runs playbooks, sends notices. On a
// loop of its own inside the gateway's process; what touches the cluster is an Action that the program wires in.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "ops/cluster_view.h"
#include "ops/collect/cluster_track.h"
#include "ops/known_node.h"

namespace hp::ops {

struct ActionRequest {
  std::string action, target, argument;
  std::string who;               ///< a person's or playbook's name, for the audit
  std::int64_t incident_id = 0;  ///< 0: of none
  bool dry_run = false;
  bool undo = false;  ///< takes an earlier action back: exempt from the rate limits
};

struct ActionOutcome {
  bool ok = false;
  bool changed = true;        ///< false: there was nothing to do, so nothing is to be taken back
  std::string text;           ///< what was done, or would be, or why not
  std::string undo_argument;  ///< what the undo needs to restore the state from before
};

/// Runs on a worker thread and may block a few seconds.
struct Action {
  ActionInfo info;
  std::function<ActionOutcome(const ActionRequest&)> run;
};

struct WatchOptions;  // ops/watch_options.h: from the configuration

struct WatchWiring {
  std::function<std::vector<KnownNode>()> nodes;  ///< any thread, never blocks long
  std::function<std::string()> gateway_metrics;   ///< this process's own page, in Prometheus' text format
  std::vector<Action> actions;
  /// Rises whenever a node is lost; the next round then comes at once.
  std::function<std::uint64_t()> losses = {};
  /// After every round, on the watch's loop: must be quick.
  std::function<void(const std::shared_ptr<const ClusterView>&)> on_view = {};
};

struct IncidentQuery {
  std::int64_t since_ms = 0, before_ms = INT64_MAX;
  std::size_t limit = 100;
  bool open_only = false;
};

struct AuditEntry {
  std::int64_t at_ms = 0, incident_id = 0;
  std::string who, action, target, argument, text;
  bool ok = false, dry_run = false;
};

class Watch {
 public:
  static Result<std::unique_ptr<Watch>> start(const WatchOptions& options, WatchWiring wiring,
                                              MetricsRegistry& metrics);
  virtual ~Watch() = default;  ///< ends the round in progress; what was set and is to be undone is left as it is

  // All of these from any thread.
  /// The newest picture; never null.
  [[nodiscard]] virtual std::shared_ptr<const ClusterView> view() const = 0;
  /// Checks (known, allowed, within its rate), runs, audits. `done` comes exactly once, on a worker thread.
  virtual void perform(ActionRequest request, std::function<void(ActionOutcome)> done) = 0;
  /// The same, waiting for the end.
  ActionOutcome perform(const ActionRequest& request);
  /// Newest first. From the store, or from memory while that fails.
  [[nodiscard]] virtual std::vector<IncidentView> incidents(const IncidentQuery& query) const = 0;
  [[nodiscard]] virtual std::vector<AuditEntry> audit(std::int64_t since_ms, std::size_t limit) const = 0;
  /// Somebody looks after it: no further escalation. False: no such open incident.
  virtual bool acknowledge(std::int64_t incident_id, std::string_view who) = 0;
  virtual bool add_note(std::int64_t incident_id, std::string_view who, std::string_view text) = 0;
  /// One test message through a channel by name, or through all with ""; per channel what came of it.
  virtual std::vector<std::pair<std::string, Status>> test_notice(std::string_view channel) = 0;
  /// Counts of earlier processes, so that the windows of the error budget outlive this one.
  virtual void recall(PastCounts past) = 0;
};

}  // namespace hp::ops
