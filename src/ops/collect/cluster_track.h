// All readings of a cluster: from pages to the signals that rules are about, and to the view that people see. Plain
// state; one thread.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ops/collect/node_track.h"
#include "ops/rule.h"

namespace hp::ops {

struct SignalSample {
  std::string_view signal;  ///< as in rules.toml
  std::string instance;     ///< node, node/gpu0, "cluster" or "gateway"
  double value = 0;
};

struct Moment {
  std::int64_t at_ms = 0;    ///< monotonic
  std::int64_t wall_ms = 0;  ///< since 1970
};

/// What the gateway counted before this process. Times are milliseconds since 1970, oldest first.
struct PastCounts {
  std::vector<Growth> requests, given_up;
};

class ClusterTrack {
 public:
  explicit ClusterTrack(const std::vector<Rule>& rules);
  /// After the gateway's first page: windows of hours and days begin before this process.
  void recall(const Moment& now, PastCounts past);
  NodeTrack& node(std::string_view name);
  void gateway_page(std::int64_t at_ms, Page page);
  /// Once a round, after the pages. Nodes that are known no more are forgotten.
  void round(const Moment& now, const std::vector<KnownNode>& known);

  [[nodiscard]] std::vector<SignalSample> signals(const Moment& now) const;
  /// Figures, nodes, tenants and models.
  void fill(ClusterView& view) const;

 private:
  [[nodiscard]] std::int64_t window(std::string_view signal) const;
  void node_signals(const Moment& now, const NodeTrack& node, std::vector<SignalSample>& out) const;
  void gateway_signals(const Moment& now, std::vector<SignalSample>& out) const;
  [[nodiscard]] std::optional<double> share(const CounterWindow& part, std::int64_t window_ms) const;
  [[nodiscard]] std::optional<double> first_token_p99(std::int64_t window_ms) const;
  void fill_models(ClusterView& view) const;

  std::map<std::string, std::int64_t, std::less<>> windows_;  // by signal
  std::map<std::string, double, std::less<>> events_;         // by signal: Rule::events
  std::map<std::string, NodeTrack, std::less<>> nodes_;
  Page gateway_;
  CounterWindow requests_, timeouts_, refusals_, given_up_, resumes_, tokens_, prompt_tokens_;
  HistogramWindow first_token_, gap_;
};

}  // namespace hp::ops
