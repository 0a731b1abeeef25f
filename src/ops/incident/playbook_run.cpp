#include <algorithm>
#include <utility>

#include "base/check.h"
#include "ops/incident/playbook.h"

namespace hp::ops {
namespace {

/// A GPU's or a node's name as the node's.
std::string node_of(const std::string& instance) {
  return instance.substr(0, instance.find("/gpu"));
}

std::vector<std::string> targets_of(const PlaybookStep& step, const std::string& instance, const Situation& s) {
  const bool whole = instance == "cluster" || instance == "gateway";
  if (step.target == StepTarget::cluster) return {""};
  if (step.target == StepTarget::instance && !whole) return {node_of(instance)};
  return {s.nodes.rbegin(), s.nodes.rend()};  // taken from the back
}

}  // namespace

PlaybookRun PlaybookRun::undo_only(const Playbook& playbook, std::string instance, std::vector<Applied> applied) {
  PlaybookRun run(playbook, std::move(instance));
  run.applied_ = std::move(applied);
  run.phase_ = Phase::undoing;
  run.step_ = playbook.steps.size();
  return run;
}

std::optional<Order> PlaybookRun::next(std::int64_t now_ms, const Situation& situation) {
  if (in_flight_ || phase_ == Phase::done) return std::nullopt;
  if (phase_ == Phase::undoing && situation.firing && !playbook_.steps.empty()) {
    // It came back while we were taking steps back: those that were undone are done again.
    phase_ = Phase::acting;
    step_ = applied_.empty() ? 0 : applied_.back().step + 1;
    step_begun_ = step_took_ = false;
    not_before_ms_ = now_ms;
  }
  if (phase_ != Phase::undoing && !situation.firing) {
    phase_ = Phase::undoing;
    step_begun_ = step_took_ = false;
    targets_.clear();
    not_before_ms_ = now_ms;
  }
  if (now_ms < not_before_ms_) return std::nullopt;
  return phase_ == Phase::undoing ? take_back(now_ms) : act(now_ms, situation);
}

std::optional<Order> PlaybookRun::act(std::int64_t now_ms, const Situation& situation) {
  while (step_ < playbook_.steps.size()) {
    const PlaybookStep& step = playbook_.steps[step_];
    if (step.action == "verify") {  // ends by the alert's end, or goes on to the next step
      if (!step_begun_) verify_until_ms_ = now_ms + step.wait_ms;
      step_begun_ = true;
      if (now_ms < verify_until_ms_) {
        phase_ = Phase::waiting;
        return std::nullopt;
      }
      ++step_;
      step_begun_ = false;
      continue;
    }
    phase_ = Phase::acting;
    if (!step_begun_) targets_ = targets_of(step, instance_, situation);
    step_begun_ = true;
    if (targets_.empty()) {
      ++step_;
      step_begun_ = false;
      if (!std::exchange(step_took_, false) || step.wait_ms == 0) continue;  // what was not done needs no time to help
      not_before_ms_ = now_ms + step.wait_ms;
      return std::nullopt;
    }
    in_flight_ = true;
    return Order{
        .action = step.action, .target = targets_.back(), .argument = step.argument, .timeout_ms = step.timeout_ms};
  }
  phase_ = Phase::waiting;  // everything was tried: from here on people
  return std::nullopt;
}

std::optional<Order> PlaybookRun::take_back(std::int64_t now_ms) {
  static_cast<void>(now_ms);
  if (applied_.empty()) {
    phase_ = Phase::done;
    return std::nullopt;
  }
  in_flight_ = true;
  const Applied& last = applied_.back();
  return Order{.action = last.undo_action,
               .target = last.target,
               .argument = last.undo_argument,
               .undo = true,
               .timeout_ms = 30'000};
}

void PlaybookRun::finished(const Order& order, bool ok, Applied undo, std::int64_t now_ms) {
  HP_CHECK(in_flight_, "no order of this run is open");
  in_flight_ = false;
  if (order.undo) {  // one that fails is not tried for ever: the timeline says so, and a person sees it
    if (!applied_.empty()) applied_.pop_back();
    not_before_ms_ = now_ms + playbook_.undo_pause_ms;
    return;
  }
  if (!targets_.empty()) targets_.pop_back();
  step_took_ = step_took_ || ok;
  if (!ok || undo.undo_action.empty() || !playbook_.steps[step_].undo) return;
  undo.step = step_;
  undo.target = order.target;
  applied_.push_back(std::move(undo));
}

void PlaybookRun::inherit(std::uint64_t number, std::string undo_argument) {
  for (Applied& a : applied_) {
    if (a.number != number) continue;
    a.undo_argument = std::move(undo_argument);
    a.changed = true;
  }
}

}  // namespace hp::ops
