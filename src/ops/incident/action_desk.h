// Everything that may be done to the cluster, behind one desk: known, allowed, within its rate, then run on a worker
// thread and audited. People and playbooks come through the same door.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/thread_pool.h"
#include "ops/incident/playbook.h"
#include "ops/incident/store.h"
#include "ops/watch.h"

namespace hp::ops {

struct ActionPolicy {
  std::vector<std::string> forbidden;  ///< nobody may
  bool dry_run = false;                ///< playbooks only say what they would do
  std::vector<RateLimit> limits;
};

class ActionDesk {
 public:
  ActionDesk(std::vector<Action> actions, ActionPolicy policy, IncidentStore& store, const Clock& clock,
             MetricsRegistry& metrics);

  /// From any thread; `done` once, on a worker thread or at once when refused.
  void perform(ActionRequest request, std::function<void(ActionOutcome)> done);
  /// Waits for actions in progress; from now on every one is refused.
  void finish();
  [[nodiscard]] std::vector<ActionInfo> infos() const;
  [[nodiscard]] const ActionInfo* find(std::string_view action) const;

 private:
  [[nodiscard]] const Action* action_of(std::string_view name) const;
  Status check(const ActionRequest& request, const Action* action);
  Status take_place(const ActionRequest& request);
  void record(const ActionRequest& request, const ActionOutcome& outcome);

  std::vector<Action> actions_;
  const ActionPolicy policy_;
  IncidentStore& store_;
  const Clock& clock_;
  MetricsRegistry& metrics_;
  std::mutex mutex_;
  std::map<std::string, std::deque<TimePoint>> taken_;  // "action target" -> moments
  std::unique_ptr<TaskQueue> workers_;                  // last: ends first; null: finished
};

}  // namespace hp::ops
