#include <algorithm>

#include "ops/limits.h"
#include "ops/rule.h"

namespace hp::ops {
namespace {

/// Time that the condition has demonstrably held since the last sample.
struct Elapsed {
  std::int64_t ms = 0;
  bool gap = false;
};

Elapsed elapsed(const AlertState& state, std::int64_t at_ms) {
  if (!state.seen || at_ms <= state.last_ms) return {};
  const std::int64_t ms = at_ms - state.last_ms;
  return ms > limits::kMaxGapMs ? Elapsed{.gap = true} : Elapsed{.ms = ms};
}

AlertPhase after_breach(const Rule& rule, AlertState& state, const Elapsed& time) {
  // The first breach starts the count; time before it does not belong to it.
  state.held_ms = state.counting && !time.gap ? state.held_ms + time.ms : 0;
  state.counting = true;
  return state.held_ms >= rule.for_ms ? AlertPhase::firing : AlertPhase::pending;
}

AlertPhase after_calm(const Rule& rule, AlertState& state, const Elapsed& time) {
  state.held_ms = state.counting && !time.gap ? state.held_ms + time.ms : 0;
  state.counting = true;
  return state.held_ms >= rule.clear_for_ms ? AlertPhase::inactive : AlertPhase::firing;
}

}  // namespace

std::string_view to_string(AlertPhase phase) {
  switch (phase) {
    case AlertPhase::inactive:
      return "inactive";
    case AlertPhase::pending:
      return "pending";
    case AlertPhase::firing:
      break;
  }
  return "firing";
}

std::optional<Transition> advance(const Rule& rule, AlertState& state, std::int64_t at_ms, double value) {
  const Elapsed time = elapsed(state, at_ms);
  const AlertPhase from = state.phase;
  if (from == AlertPhase::firing) {
    if (rule.calm(value)) {
      state.phase = after_calm(rule, state, time);
    } else {
      state.counting = false;
      state.held_ms = 0;
    }
  } else if (rule.breached(value)) {
    state.phase = after_breach(rule, state, time);
  } else {
    state.phase = AlertPhase::inactive;
    state.counting = false;
    state.held_ms = 0;
  }
  if (state.phase != from && state.phase != AlertPhase::pending) state.counting = false, state.held_ms = 0;
  state.last_ms = at_ms;
  state.seen = true;
  state.value = value;
  if (state.phase == from) return std::nullopt;
  return Transition{from, state.phase};
}

}  // namespace hp::ops
