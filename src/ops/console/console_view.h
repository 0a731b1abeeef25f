// The cluster's picture as the console and the terminal show it: JSON by section, and what of it goes into the history.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/cluster_view.h"
#include "ops/console/console.h"
#include "ops/history/history.h"
#include "ops/watch.h"

namespace hp::ops {

std::vector<ConsoleSection> overview_sections(const ClusterView& view);
/// {"incidents": […]}, {"audit": […]}
std::string incidents_json(std::span<const IncidentView> incidents);
std::string audit_json(std::span<const AuditEntry> entries);
/// The whole picture as one object: `homeport top --json`.
std::string view_json(const ClusterView& view);

/// The figures of one moment.
void record_view(History& history, const ClusterView& view);
/// What record_view() kept of the gateway's counters.
PastCounts past_counts(const History& history);
/// Percentiles as the clients see them: from the gateway's own page in Prometheus' text format.
void record_latencies(History& history, std::string_view metrics_page);

/// The console over a watch that outlives it. `metrics_page` may be empty.
ConsoleSource watch_source(Watch& watch, std::function<std::string()> metrics_page);

}  // namespace hp::ops
