#include "ops/incident/action_desk.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr int kWorkers = 3;  // a bundle takes seconds, and a restart must not wait for it

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

ActionDesk::ActionDesk(std::vector<Action> actions, ActionPolicy policy, IncidentStore& store, const Clock& clock,
                       MetricsRegistry& metrics)
    : actions_(std::move(actions)),
      policy_(std::move(policy)),
      store_(store),
      clock_(clock),
      metrics_(metrics),
      workers_(std::make_unique<TaskQueue>(kWorkers, limits::kMaxActionQueue)) {
  for (Action& action : actions_)
    action.info.allowed = std::ranges::find(policy_.forbidden, action.info.name) == policy_.forbidden.end();
}

const Action* ActionDesk::action_of(std::string_view name) const {
  const auto found = std::ranges::find_if(actions_, [&](const Action& a) { return a.info.name == name; });
  return found == actions_.end() ? nullptr : &*found;
}

const ActionInfo* ActionDesk::find(std::string_view name) const {
  const Action* action = action_of(name);
  return action == nullptr ? nullptr : &action->info;
}

std::vector<ActionInfo> ActionDesk::infos() const {
  std::vector<ActionInfo> out;
  for (const Action& action : actions_) out.push_back(action.info);
  return out;
}

Status ActionDesk::take_place(const ActionRequest& r) {
  if (r.undo) return {};
  const auto limit = std::ranges::find(policy_.limits, r.action, &RateLimit::action);
  if (limit == policy_.limits.end()) return {};
  const std::lock_guard lock(mutex_);
  std::deque<TimePoint>& moments = taken_[limit->per_target ? r.action + " " + r.target : r.action];
  const TimePoint now = clock_.now();
  while (!moments.empty() && now - moments.front() >= std::chrono::milliseconds(limit->window_ms)) moments.pop_front();
  if (moments.size() >= static_cast<std::size_t>(limit->count))
    return fail(ErrorCode::resource_exhausted, "{} was taken {} times within {} s, which is its limit", r.action,
                moments.size(), limit->window_ms / 1000);
  if (!r.dry_run) moments.push_back(now);
  return {};
}

Status ActionDesk::check(const ActionRequest& r, const Action* action) {
  if (action == nullptr) return fail(ErrorCode::not_found, "there is no action '{}' here", r.action);
  if (!action->info.allowed) return fail(ErrorCode::unsupported, "{} is forbidden by ops.forbid", r.action);
  if (action->info.target == ActionTarget::node && r.target.empty())
    return fail(ErrorCode::invalid_argument, "{} needs the name of a node", r.action);
  return take_place(r);
}

void ActionDesk::record(const ActionRequest& r, const ActionOutcome& outcome) {
  store_.audit({.at_ms = wall_ms(),
                .incident_id = r.incident_id,
                .who = r.who,
                .action = r.action,
                .target = r.target,
                .argument = r.argument,
                .text = outcome.text,
                .ok = outcome.ok,
                .dry_run = r.dry_run});
  log::write(outcome.ok ? log::Level::info : log::Level::warn,
             fmt::format("ops: {}{} {} {} by {}: {}{}", r.dry_run ? "(dry run) " : "", r.action, r.target, r.argument,
                         r.who, outcome.ok ? "" : "failed: ", outcome.text));
  metrics_
      .counter("homeport_ops_actions_total", "Actions by name and result",
               {{"action", action_of(r.action) == nullptr ? "unknown" : r.action},
                {"result", r.dry_run    ? "dry_run"
                           : outcome.ok ? "ok"
                                        : "failed"}})
      .add();
}

void ActionDesk::finish() {
  std::unique_ptr<TaskQueue> workers;
  {
    const std::lock_guard lock(mutex_);
    workers = std::move(workers_);
  }
}

void ActionDesk::perform(ActionRequest r, std::function<void(ActionOutcome)> done) {
  r.dry_run = r.dry_run || (policy_.dry_run && r.who.starts_with("playbook:"));
  const Action* action = action_of(r.action);
  if (const Status allowed = check(r, action); !allowed) {
    const ActionOutcome refused{.ok = false, .changed = false, .text = allowed.error().message, .undo_argument = {}};
    record(r, refused);
    return done(refused);
  }
  const auto shared =
      std::make_shared<std::pair<ActionRequest, std::function<void(ActionOutcome)>>>(std::move(r), std::move(done));
  const auto work = [this, action, shared] {
    ActionOutcome outcome = action->run(shared->first);
    if (shared->first.dry_run) outcome.changed = false;
    record(shared->first, outcome);
    shared->second(std::move(outcome));
  };
  {
    const std::lock_guard lock(mutex_);
    if (workers_ && workers_->try_post(work)) return;
  }
  const ActionOutcome busy{
      .ok = false, .changed = false, .text = "too many actions wait, or this process ends", .undo_argument = {}};
  record(shared->first, busy);
  shared->second(busy);
}

}  // namespace hp::ops
