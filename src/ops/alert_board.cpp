#include "ops/alert_board.h"

#include "ops/limits.h"

namespace hp::ops {

AlertBoard::AlertBoard(std::vector<Rule> rules) : rules_(std::move(rules)) {
  for (const Rule& rule : rules_) by_signal_[rule.signal].push_back(&rule);
}

std::vector<AlertChange> AlertBoard::round(const Moment& now, const std::vector<SignalSample>& signals,
                                           const std::function<bool(std::string_view)>& known) {
  std::vector<AlertChange> changes;
  for (const SignalSample& sample : signals) {
    const auto rules = by_signal_.find(sample.signal);
    if (rules == by_signal_.end()) continue;
    for (const Rule* rule : rules->second) {
      const std::pair key{rule->id, sample.instance};
      auto found = entries_.find(key);
      if (found == entries_.end()) {
        if (!rule->breached(sample.value)) continue;  // calm series cost no memory
        if (entries_.size() >= limits::kMaxAlertSeries) {
          ++refused_;
          continue;
        }
        found = entries_.emplace(key, Entry{.rule = rule, .state = {}}).first;
      }
      Entry& entry = found->second;
      const auto change = advance(*rule, entry.state, now.at_ms, sample.value);
      if (!change) continue;
      entry.since_wall_ms = now.wall_ms;
      changes.push_back({rule, sample.instance, change->from, change->to, sample.value});
    }
  }
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = it->second;
    const bool gone = !known(it->first.second);
    if (gone && entry.state.phase == AlertPhase::firing)
      changes.push_back({entry.rule, it->first.second, AlertPhase::firing, AlertPhase::inactive, entry.state.value});
    it = gone || entry.state.phase == AlertPhase::inactive ? entries_.erase(it) : std::next(it);
  }
  return changes;
}

bool AlertBoard::firing(std::string_view rule, std::string_view instance) const {
  const auto found = entries_.find(std::pair{std::string(rule), std::string(instance)});
  return found != entries_.end() && found->second.state.phase == AlertPhase::firing;
}

std::vector<AlertView> AlertBoard::alerts() const {
  std::vector<AlertView> out;
  for (const auto& [key, entry] : entries_) {
    const Rule& rule = *entry.rule;
    out.push_back({.rule = rule.id,
                   .instance = key.second,
                   .level = rule.level,
                   .incident = rule.incident,
                   .phase = entry.state.phase,
                   .value = entry.state.value,
                   .threshold = rule.threshold,
                   .since_ms = entry.since_wall_ms,
                   .en = rule_text(rule, false),
                   .zh = rule_text(rule, true)});
  }
  return out;
}

}  // namespace hp::ops
