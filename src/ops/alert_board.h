// Every alert by rule and instance: takes the signals of a round, says what changed. Plain state.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ops/cluster_view.h"
#include "ops/collect/cluster_track.h"
#include "ops/rule.h"

namespace hp::ops {

struct AlertChange {
  const Rule* rule = nullptr;
  std::string instance;
  AlertPhase from = AlertPhase::inactive, to = AlertPhase::inactive;
  double value = 0;
};

class AlertBoard {
 public:
  explicit AlertBoard(std::vector<Rule> rules);
  /// `known`: whether an instance still exists; the alerts of those that do not end.
  std::vector<AlertChange> round(const Moment& now, const std::vector<SignalSample>& signals,
                                 const std::function<bool(std::string_view instance)>& known);
  [[nodiscard]] bool firing(std::string_view rule, std::string_view instance) const;
  /// Pending and firing ones.
  [[nodiscard]] std::vector<AlertView> alerts() const;
  [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  struct Entry {
    const Rule* rule = nullptr;
    AlertState state;
    std::int64_t since_wall_ms = 0;
  };
  const std::vector<Rule> rules_;
  std::map<std::string, std::vector<const Rule*>, std::less<>> by_signal_;
  std::map<std::pair<std::string, std::string>, Entry, std::less<>> entries_;  // rule id, instance
  std::uint64_t refused_ = 0;
};

}  // namespace hp::ops
