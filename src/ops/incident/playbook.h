// Playbooks as data, and one run of a playbook as a pure state machine: it says what to do next and is told what came
// of it. Undoing goes backwards over what was done.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp::ops {

enum class StepTarget { instance, nodes, cluster };

struct PlaybookStep {
  std::string action, argument;
  StepTarget target = StepTarget::cluster;
  std::int64_t wait_ms = 0, timeout_ms = 30'000;
  bool undo = true;
};

struct Playbook {
  std::string name;
  int level = 0;
  std::vector<std::string> rules;  ///< empty: all of the level
  bool per_instance = false;
  std::int64_t undo_pause_ms = 0;
  std::vector<PlaybookStep> steps;
};

struct RateLimit {
  std::string action;
  bool per_target = false;
  int count = 0;
  std::int64_t window_ms = 0;
};

struct PlaybookSet {
  std::vector<Playbook> playbooks;
  std::vector<RateLimit> limits;
  [[nodiscard]] const Playbook* find(int level, std::string_view rule) const;
};

/// The shipped ones; playbooks and limits of `overrides` replace those of the same name and action, new ones go first.
Result<PlaybookSet> load_playbooks(std::string_view overrides = {}, std::string_view source = "playbooks");

/// What a run wants done.
struct Order {
  std::string action, target, argument;
  bool undo = false;
  std::int64_t timeout_ms = 0;
};

/// What a run has to know to decide.
struct Situation {
  bool firing = false;             ///< its alerts still fire
  std::vector<std::string> nodes;  ///< those that serve
};

class PlaybookRun {
 public:
  enum class Phase { acting, waiting, undoing, done };
  /// What was done and how to take it back.
  struct Applied {
    std::size_t step = 0;
    std::string undo_action, target, undo_argument;
    bool changed = true;       ///< false: another run had done it already, and this one needs it too
    std::uint64_t number = 0;  ///< later ones are larger
  };

  /// `instance`: the node in trouble, or "cluster". `undo_of`: the action that takes an action back, or "".
  PlaybookRun(const Playbook& playbook, std::string instance) : playbook_(playbook), instance_(std::move(instance)) {}
  /// A run that only takes back what an earlier process did.
  static PlaybookRun undo_only(const Playbook& playbook, std::string instance, std::vector<Applied> applied);

  /// The next thing to do now, or nothing. After an order, nothing comes until finished().
  std::optional<Order> next(std::int64_t now_ms, const Situation& situation);
  /// `undo.undo_action` empty: nothing to take back; its step and target are filled in.
  void finished(const Order& order, bool ok, Applied undo, std::int64_t now_ms);
  /// From now on this run takes back what another one did, whose work ended first.
  void inherit(std::uint64_t number, std::string undo_argument);

  [[nodiscard]] Phase phase() const { return phase_; }
  [[nodiscard]] const std::vector<Applied>& applied() const { return applied_; }
  [[nodiscard]] const std::string& instance() const { return instance_; }
  [[nodiscard]] const Playbook& playbook() const { return playbook_; }

 private:
  std::optional<Order> act(std::int64_t now_ms, const Situation& situation);
  std::optional<Order> take_back(std::int64_t now_ms);

  const Playbook& playbook_;
  std::string instance_;
  Phase phase_ = Phase::acting;
  std::size_t step_ = 0;              // the next one
  std::vector<std::string> targets_;  // of the current step, still to be done, last first
  bool in_flight_ = false, step_begun_ = false;
  bool step_took_ = false;  // an order of the current step was carried out
  std::int64_t not_before_ms_ = 0, verify_until_ms_ = 0;
  std::vector<Applied> applied_;
};

}  // namespace hp::ops
