#include "ops/incident/incident_desk.h"

#include <algorithm>

#include "base/log.h"
#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kClosedShownMs = 3'600'000;

/// The node of a GPU.
std::string node_of(const std::string& instance) {
  return instance.substr(0, instance.find("/gpu"));
}

TimelineEntry entry_of(const Moment& now, std::string kind, std::string who, std::string text) {
  TimelineEntry e;
  e.at_ms = now.wall_ms;
  e.kind = std::move(kind);
  e.who = std::move(who);
  e.text = std::move(text);
  return e;
}

}  // namespace

IncidentDesk::Ref IncidentDesk::find(std::int64_t id) const {
  const auto found = std::ranges::find_if(incidents_, [&](const Ref& i) { return i->view.id == id; });
  return found == incidents_.end() ? nullptr : *found;
}

void IncidentDesk::log_entry(Incident& incident, TimelineEntry entry) {
  log::info("ops: incident {} {} {}{}: {}", incident.view.id, entry.kind,
            entry.action.empty() ? entry.who : entry.action, entry.target.empty() ? "" : " " + entry.target,
            entry.text);
  parts_.store->append(incident.view.id, entry);
  if (incident.view.timeline.size() < limits::kMaxTimelineEntries) incident.view.timeline.push_back(std::move(entry));
}

void IncidentDesk::tell(const Incident& incident, NoticeKind kind, const Moment& now, const std::string& role) {
  const IncidentView& v = incident.view;
  parts_.notifier->tell({.kind = kind,
                         .level = v.level,
                         .incident_id = v.id,
                         .key = fmt::format("homeport-{}", v.id),
                         .rule = v.rule,
                         .instance = v.instance,
                         .en = v.en,
                         .zh = v.zh,
                         .timeline = v.timeline,
                         .at_ms = now.wall_ms,
                         .started_ms = v.started_ms,
                         .role = role},
                        now);
}

void IncidentDesk::take_over(const Moment& now) {
  const IncidentStore::Left left = parts_.store->left_behind();
  for (const std::int64_t id : left.open_incidents) {
    // Whatever is still wrong opens an incident of its own in a moment.
    IncidentQuery query;
    query.open_only = true;
    for (IncidentView& v : parts_.store->incidents(query)) {
      if (v.id != id) continue;
      v.state = IncidentState::closed;
      v.ended_ms = now.wall_ms;
      parts_.store->save(v);
      parts_.store->append(id, entry_of(now, "closed", "homeport", "the watch was started anew"));
    }
  }
  static const Playbook kNothing{
      .name = "earlier process", .level = 2, .rules = {}, .undo_pause_ms = 1'000, .steps = {}};
  std::vector<PlaybookRun::Applied> applied;
  for (const PendingUndo& u : left.undo)
    applied.push_back({.step = 0,
                       .undo_action = u.action,
                       .target = u.target,
                       .undo_argument = u.argument,
                       .number = ++last_applied_});
  for (const PendingUndo& u : left.undo) parts_.store->set_undo(u.incident_id, {});
  if (applied.empty()) return;
  auto incident = std::make_shared<Incident>();
  incident->view.id = last_id_ = std::max(last_id_ + 1, now.wall_ms);
  incident->view.level = 2;
  incident->view.state = IncidentState::recovering;
  incident->view.rule = "taken_over";
  incident->view.instance = "cluster";
  incident->view.en = "Changes of an earlier process are taken back";
  incident->view.zh = "撤销上一个进程所做的更改";
  incident->view.started_ms = now.wall_ms;
  incident->opened_ms = incident->reminded_ms = now.at_ms;
  parts_.store->save(incident->view);
  incident->runs.push_back(std::make_shared<Run>(
      Run{.run = PlaybookRun::undo_only(kNothing, "cluster", std::move(applied)), .name = kNothing.name}));
  incidents_.push_back(incident);
  save_undo(*incident);
  log_entry(*incident, entry_of(now, "detected", "homeport", incident->view.en));
}

IncidentDesk::Ref IncidentDesk::open_for(const AlertChange& change, const Moment& now) {
  const int level = change.rule->incident;
  for (const Ref& incident : incidents_)
    if (incident->view.level == level && incident->view.state != IncidentState::closed && !incident->alerts.empty())
      return incident;
  auto incident = std::make_shared<Incident>();
  incident->view.id = last_id_ = std::max(last_id_ + 1, now.wall_ms);  // ids are times: later ones are larger
  incident->view.level = level;
  incident->view.rule = change.rule->id;
  incident->view.instance = change.instance;
  incident->view.en = rule_text(*change.rule, false);
  incident->view.zh = rule_text(*change.rule, true);
  incident->view.started_ms = now.wall_ms;
  incident->opened_ms = incident->reminded_ms = now.at_ms;
  parts_.store->save(incident->view);
  incidents_.push_back(incident);
  return incident;
}

void IncidentDesk::add_run(Incident& incident, const AlertChange& change) {
  const Playbook* playbook = parts_.playbooks.find(change.rule->incident, change.rule->id);
  if (playbook == nullptr || !parts_.automatic) return;
  const std::string instance = playbook->per_instance ? node_of(change.instance) : change.instance;
  for (const auto& run : incident.runs) {
    const bool same = &run->run.playbook() == playbook && (!playbook->per_instance || run->run.instance() == instance);
    if (same && run->run.phase() != PlaybookRun::Phase::done) return;
  }
  incident.runs.push_back(std::make_shared<Run>(Run{.run = PlaybookRun(*playbook, instance), .name = playbook->name}));
}

void IncidentDesk::alert_fires(const AlertChange& change, const Moment& now) {
  const Ref incident = open_for(change, now);
  const bool fresh = incident->alerts.empty();
  const auto known = std::ranges::find_if(
      incident->alerts, [&](const Alert& a) { return a.rule == change.rule && a.instance == change.instance; });
  if (known != incident->alerts.end())
    known->firing = true;
  else
    incident->alerts.push_back({.rule = change.rule, .instance = change.instance});
  TimelineEntry entry = entry_of(now, "detected", "rule:" + change.rule->id,
                                 fmt::format("{} ({:g})", rule_text(*change.rule, false), change.value));
  entry.target = change.instance;
  log_entry(*incident, std::move(entry));
  if (incident->view.state != IncidentState::open) set_state(*incident, IncidentState::open, now);
  add_run(*incident, change);
  if (fresh) tell(*incident, NoticeKind::opened, now);
}

void IncidentDesk::alert_ends(const AlertChange& change, const Moment& now) {
  for (const Ref& incident : incidents_)
    for (Alert& alert : incident->alerts) {
      if (alert.rule != change.rule || alert.instance != change.instance || !alert.firing) continue;
      alert.firing = false;
      TimelineEntry entry = entry_of(now, "recovered", "rule:" + change.rule->id, fmt::format("{:g}", change.value));
      entry.target = change.instance;
      log_entry(*incident, std::move(entry));
    }
}

/// A rule that makes no incident is told and forgotten. The dead man's signal is the notifier's own business.
void IncidentDesk::message(const AlertChange& change, const Moment& now) {
  if (change.rule->id == "dead_man") return;
  const bool begins = change.to == AlertPhase::firing;
  if (begins) log::warn("ops: {} ({}): {}", change.rule->id, change.instance, rule_text(*change.rule, false));
  parts_.notifier->tell({.kind = begins ? NoticeKind::message : NoticeKind::message_end,
                         .level = 3,
                         .key = fmt::format("homeport-{}-{}", change.rule->id, change.instance),
                         .rule = change.rule->id,
                         .instance = change.instance,
                         .en = rule_text(*change.rule, false),
                         .zh = rule_text(*change.rule, true),
                         .timeline = {},
                         .at_ms = now.wall_ms,
                         .started_ms = now.wall_ms,
                         .role = {}},
                        now);
}

void IncidentDesk::changes(const Moment& now, const std::vector<AlertChange>& changes) {
  now_ = now;
  for (const AlertChange& change : changes) {
    const bool fires = change.to == AlertPhase::firing, ends = change.from == AlertPhase::firing;
    if (!fires && !ends) continue;
    if (change.rule->incident == 0)
      message(change, now);
    else if (fires)
      alert_fires(change, now);
    else
      alert_ends(change, now);
  }
}

bool IncidentDesk::run_fires(const Incident& incident, const Run& run) const {
  const Playbook& playbook = run.run.playbook();
  return std::ranges::any_of(incident.alerts, [&](const Alert& a) {
    if (!a.firing) return false;
    if (playbook.per_instance) return node_of(a.instance) == run.run.instance();
    return parts_.playbooks.find(a.rule->incident, a.rule->id) == &playbook;
  });
}

void IncidentDesk::set_state(Incident& incident, IncidentState state, const Moment& now) {
  incident.view.state = state;
  incident.view.ended_ms = state == IncidentState::closed ? now.wall_ms : 0;
  parts_.store->save(incident.view);
}

void IncidentDesk::remind(Incident& incident, const Moment& now) {
  const NoticeOptions& o = parts_.notifier->options();
  if (!incident.view.acknowledged_by.empty()) return;
  if (!incident.escalated && o.escalate_after_ms > 0 && now.at_ms - incident.opened_ms >= o.escalate_after_ms) {
    incident.escalated = true;
    log_entry(incident, entry_of(now, "notice", "homeport", "nobody has acknowledged it: escalated"));
    tell(incident, NoticeKind::escalated, now);
  }
  if (o.repeat_after_ms > 0 && now.at_ms - incident.reminded_ms >= o.repeat_after_ms) {
    incident.reminded_ms = now.at_ms;
    tell(incident, NoticeKind::reminder, now);
  }
}

void IncidentDesk::drive(const Ref& incident, const Moment& now) {
  for (const auto& run : std::vector(incident->runs)) {
    if (run->open && now.at_ms > run->deadline_ms)
      on_outcome(incident, run, Order(*run->open),
                 {.ok = false, .changed = false, .text = "no result in time; it may still come", .undo_argument = {}});
    const Situation situation{.firing = run_fires(*incident, *run), .nodes = serving_};
    const auto order = run->run.next(now.at_ms, situation);
    if (order && !leave_to_others(incident, run, *order)) carry_out(incident, run, *order);
  }
  const bool firing = std::ranges::any_of(incident->alerts, &Alert::firing);
  const bool busy =
      std::ranges::any_of(incident->runs, [](const auto& run) { return run->run.phase() != PlaybookRun::Phase::done; });
  if (firing) return remind(*incident, now);
  if (busy) {
    if (incident->view.state == IncidentState::open) set_state(*incident, IncidentState::recovering, now);
    return;
  }
  set_state(*incident, IncidentState::closed, now);
  log_entry(*incident,
            entry_of(now, "closed", "homeport",
                     fmt::format("after {:.1f} s", static_cast<double>(now.at_ms - incident->opened_ms) / 1000)));
  tell(*incident, NoticeKind::closed, now);
}

void IncidentDesk::round(const Moment& now, std::vector<std::string> serving) {
  now_ = now;
  serving_ = std::move(serving);
  std::erase_if(incidents_, [&](const Ref& i) {
    return i->view.state == IncidentState::closed && now.wall_ms - i->view.ended_ms > kClosedShownMs;
  });
  while (incidents_.size() > limits::kMaxRememberedIncidents) incidents_.pop_front();
  for (const Ref& incident : std::deque(incidents_))
    if (incident->view.state != IncidentState::closed) drive(incident, now);
}

std::vector<IncidentDesk::Holder> IncidentDesk::holders(std::string_view undo_action, std::string_view target,
                                                        const Run& but) const {
  std::vector<Holder> out;
  for (const Ref& incident : incidents_)
    for (const auto& run : incident->runs)
      for (const PlaybookRun::Applied& a : run->run.applied())
        if (run.get() != &but && a.undo_action == undo_action && a.target == target)
          out.push_back({.incident = incident, .run = run, .applied = a});
  std::ranges::sort(out, {}, [](const Holder& h) { return h.applied.number; });
  return out;
}

/// A change that another run stands by ends with the last of them: whoever came after this run takes it back, to what
/// was before this run.
bool IncidentDesk::leave_to_others(const Ref& incident, const std::shared_ptr<Run>& run, const Order& order) {
  if (!order.undo || run->run.applied().empty()) return false;
  const std::vector<ActionInfo> infos = parts_.actions->infos();
  if (std::ranges::any_of(infos, [&](const ActionInfo& i) { return i.adds && i.undo == order.action; })) return false;
  const PlaybookRun::Applied mine = run->run.applied().back();
  const std::vector<Holder> others = holders(order.action, order.target, *run);
  const auto later =
      std::ranges::upper_bound(others, mine.number, {}, [](const Holder& h) { return h.applied.number; });
  if (others.empty() || (later == others.end() && mine.changed)) return false;
  const Holder& heir = later == others.end() ? others.back() : *later;
  if (mine.changed) {
    heir.run->run.inherit(heir.applied.number, mine.undo_argument);
    save_undo(*heir.incident);
  }
  on_outcome(incident, run, order,
             {.ok = true,
              .changed = false,
              .text = fmt::format("playbook {} of incident {} still needs it", heir.run->name, heir.incident->view.id),
              .undo_argument = {}});
  return true;
}

void IncidentDesk::carry_out(const Ref& incident, const std::shared_ptr<Run>& run, const Order& order) {
  if (order.action == "notice") {
    tell(*incident, NoticeKind::update, now_, order.argument);
    return on_outcome(incident, run, order,
                      {.ok = true, .changed = false, .text = "told " + order.argument, .undo_argument = {}});
  }
  ActionRequest request{.action = order.action,
                        .target = order.target,
                        .argument = order.argument,
                        .who = "playbook:" + run->name,
                        .incident_id = incident->view.id,
                        .undo = order.undo};
  run->open = order;
  run->deadline_ms = now_.at_ms + order.timeout_ms;
  const std::uint64_t serial = ++run->serial;
  parts_.actions->perform(std::move(request), [this, incident, run, order, serial](const ActionOutcome& outcome) {
    parts_.post([this, incident, run, order, serial, outcome] {
      now_ = parts_.clock();
      if (run->serial != serial || !run->open) return late_outcome(incident, order, outcome);
      on_outcome(incident, run, order, outcome);
      if (incident->view.state != IncidentState::closed) drive(incident, now_);  // the next step at once
    });
  });
}

/// It was given up as too slow: a change that nobody would take back any more is taken back now.
void IncidentDesk::late_outcome(const Ref& incident, const Order& order, const ActionOutcome& outcome) {
  TimelineEntry entry = entry_of(now_, "note", "homeport", "late: " + outcome.text);
  entry.action = order.action;
  entry.target = order.target;
  entry.ok = outcome.ok;
  log_entry(*incident, std::move(entry));
  const ActionInfo* info = parts_.actions->find(order.action);
  if (info == nullptr || info->undo.empty() || !outcome.ok || !outcome.changed || order.undo) return;
  parts_.actions->perform({.action = info->undo,
                           .target = order.target,
                           .argument = outcome.undo_argument,
                           .who = "playbook:late",
                           .incident_id = incident->view.id,
                           .undo = true},
                          [](const ActionOutcome&) {});
}

void IncidentDesk::on_outcome(const Ref& incident, const std::shared_ptr<Run>& run, const Order& order,
                              const ActionOutcome& outcome) {
  run->open.reset();
  const ActionInfo* info = parts_.actions->find(order.action);
  PlaybookRun::Applied undo{
      .undo_argument = outcome.undo_argument, .changed = outcome.changed, .number = ++last_applied_};
  if (info != nullptr && outcome.ok &&
      (outcome.changed || (!info->adds && !holders(info->undo, order.target, *run).empty())))
    undo.undo_action = info->undo;
  run->run.finished(order, outcome.ok, std::move(undo), now_.at_ms);
  TimelineEntry entry = entry_of(now_,
                                 order.action == "notice" ? "notice"
                                 : order.undo             ? "undo"
                                                          : "action",
                                 "playbook:" + run->name, outcome.text);
  entry.action = order.action;
  entry.target = order.target;
  entry.ok = outcome.ok;
  log_entry(*incident, std::move(entry));
  save_undo(*incident);
}

void IncidentDesk::save_undo(const Incident& incident) {
  std::vector<PendingUndo> undo;
  for (const auto& run : incident.runs)
    for (const PlaybookRun::Applied& a : run->run.applied())
      undo.push_back(
          {.incident_id = incident.view.id, .action = a.undo_action, .target = a.target, .argument = a.undo_argument});
  parts_.store->set_undo(incident.view.id, std::move(undo));
}

bool IncidentDesk::acknowledge(std::int64_t id, std::string_view who, const Moment& now) {
  const Ref incident = find(id);
  if (!incident || incident->view.state == IncidentState::closed) return false;
  incident->view.acknowledged_by = who;
  parts_.store->save(incident->view);
  log_entry(*incident, entry_of(now, "note", std::string(who), "looks after it"));
  return true;
}

bool IncidentDesk::note(std::int64_t id, std::string_view who, std::string_view text, const Moment& now) {
  const Ref incident = find(id);
  if (!incident) return false;
  log_entry(*incident, entry_of(now, "note", std::string(who), std::string(text)));
  return true;
}

void IncidentDesk::person_acted(const ActionRequest& request, const ActionOutcome& outcome, const Moment& now) {
  Ref incident = find(request.incident_id);
  for (const Ref& open : incidents_)  // without a number it belongs to what is open now
    if (!incident && request.incident_id == 0 && open->view.state != IncidentState::closed) incident = open;
  if (!incident || request.dry_run) return;
  TimelineEntry entry = entry_of(now, "action", request.who, outcome.text);
  entry.action = request.action;
  entry.target = request.target;
  entry.ok = outcome.ok;
  log_entry(*incident, std::move(entry));
}

std::vector<IncidentView> IncidentDesk::views(std::int64_t wall_ms) const {
  std::vector<IncidentView> out;
  for (const Ref& incident : incidents_)
    if (incident->view.state != IncidentState::closed || wall_ms - incident->view.ended_ms <= kClosedShownMs)
      out.push_back(incident->view);
  std::ranges::reverse(out);
  return out;
}

}  // namespace hp::ops
