// Alert rules as data, and the state machine pending -> firing -> resolved as a pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hp::ops {

enum class Level { hardware, software, business };
std::string_view to_string(Level level);

struct Rule {
  std::string id, signal, expr;
  std::string en, zh;  ///< one sentence; {threshold} and {threshold:%} stand for the threshold
  Level level = Level::software;
  bool above = true;  ///< fires above the threshold, else below
  double threshold = 0, clear = 0;
  std::int64_t for_ms = 0, clear_for_ms = 0, window_ms = 0;
  double events = 0;  ///< of a share: fewer bad events than these in the (longer) window are no share yet
  int incident = 0;   ///< 1: service down, 2: slow, 0: a message only
  [[nodiscard]] bool breached(double value) const { return above ? value > threshold : value < threshold; }
  /// Well behind the threshold: what counts towards the end of the alert.
  [[nodiscard]] bool calm(double value) const { return above ? value <= clear : value >= clear; }
};

/// The shipped rules; `overrides` is TOML with one table per id and any of above, below, clear, for_s, clear_for_s,
/// window_s, events. Unknown ids and keys are errors with a suggestion.
Result<std::vector<Rule>> load_rules(std::string_view overrides = {}, std::string_view source_name = "rules");

enum class AlertPhase { inactive, pending, firing };
std::string_view to_string(AlertPhase phase);

/// One rule on one instance. Durations are sums of time between samples, so that a clock that steps counts for nothing:
/// backwards as 0, forwards beyond kMaxGapMs as a gap.
struct AlertState {
  AlertPhase phase = AlertPhase::inactive;
  std::int64_t last_ms = 0;  ///< of the last sample, by the samples' own clock
  std::int64_t held_ms = 0;  ///< time beyond the threshold without a break (pending), or calm without a break (firing)
  bool seen = false, counting = false;
  double value = 0;
};

struct Transition {
  AlertPhase from = AlertPhase::inactive, to = AlertPhase::inactive;
};

/// One sample. A gap longer than kMaxGapMs starts a pending alert anew and leaves a firing one as it is: silence is not
/// recovery.
std::optional<Transition> advance(const Rule& rule, AlertState& state, std::int64_t at_ms, double value);

/// The sentence with the threshold filled in.
std::string rule_text(const Rule& rule, bool zh);
/// A group file for Prometheus.
std::string prometheus_rules(const std::vector<Rule>& rules);

}  // namespace hp::ops
