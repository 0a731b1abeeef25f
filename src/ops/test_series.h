// Pages over time through the same path as the watch's: text, figures, signals, alerts. For tests.
#pragma once

#include <string_view>
#include <vector>

#include "ops/alert_board.h"

namespace hp::ops {

/// What one moment brings: the page of a node called "n" and the gateway's. A node that is not up has no page.
struct SeriesMoment {
  std::int64_t at_ms = 0;
  std::string_view node, gateway;
  bool up = true;
  std::int64_t wall_ms = at_ms;  ///< since 1970
};

class SeriesRun {
 public:
  explicit SeriesRun(std::vector<Rule> rules) : track_(rules), board_(std::move(rules)) {}

  std::vector<AlertChange> round(const SeriesMoment& m) {
    if (m.up)
      track_.node("n").page(m.at_ms, m.wall_ms, read_page(m.node));
    else
      track_.node("n").unreadable(true);
    track_.gateway_page(m.at_ms, read_page(m.gateway));
    const Moment now{.at_ms = m.at_ms, .wall_ms = m.wall_ms};
    KnownNode known;
    known.name = "n";
    known.condition = m.up ? NodeCondition::ready : NodeCondition::unreachable;
    track_.round(now, {known});
    return board_.round(now, track_.signals(now), [](std::string_view) { return true; });
  }
  [[nodiscard]] ClusterTrack& track() { return track_; }
  [[nodiscard]] const AlertBoard& board() const { return board_; }

 private:
  ClusterTrack track_;
  AlertBoard board_;
};

}  // namespace hp::ops
