// Every rule over a series of pages, through everything that lies between a page and an alert.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "ops/test_series.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kOnset = 600, kEnd = 1'400, kLast = kEnd + 1'500;  // seconds; bad from kOnset to kEnd

/// Seconds of the series that were bad so far, the current one included.
std::int64_t bad(std::int64_t t) {
  return std::clamp<std::int64_t>(t - kOnset + 1, 0, kEnd - kOnset);
}
bool is_bad(std::int64_t t) {
  return t >= kOnset && t < kEnd;
}

struct Case {
  std::string_view rule;
  std::int64_t fires;  ///< seconds after kOnset
  std::function<std::string(std::int64_t)> node, gateway = {};
  std::function<bool(std::int64_t)> up = {};
  bool ends = true;  ///< by kLast
};

std::string gateway_counts(std::int64_t t, std::string_view counter) {
  return fmt::format("homeport_gateway_requests_total {}\n{} {}\n", 10 * t, counter, bad(t));
}

std::string histogram(std::int64_t t) {
  const std::string name = "vllm:time_to_first_token_seconds_bucket{le=";
  const std::int64_t fast = t - bad(t);
  return fmt::format("{0}\"0.25\"}} {1}\n{0}\"0.5\"}} {1}\n{0}\"0.75\"}} {2}\n{0}\"+Inf\"}} {2}\n", name, fast, t);
}

std::vector<Case> cases() {
  const auto given_up = [](std::int64_t t) { return gateway_counts(t, "homeport_gateway_given_up_total"); };
  const auto fixed = [](std::string_view name, double good, double ill, std::string_view more = "") {
    return [=](std::int64_t t) { return fmt::format("{} {}\n{}\n", name, is_bad(t) ? ill : good, more); };
  };
  return {
      {"gpu_temperature", 300, fixed("homeport_gpu_temperature_celsius{gpu=\"0\"}", 80, 85.1)},
      {"gpu_memory", 60,
       fixed("homeport_gpu_memory_used_bytes{gpu=\"0\"}", 80, 90.1, "homeport_gpu_memory_total_bytes{gpu=\"0\"} 100")},
      // 4 of the 300 in the window lie above half a second: more than one in a hundred.
      {"latency_p99", 3, histogram},
      // 76 * 20 of 300 * 100.
      {"failed_batches", 75,
       [](std::int64_t t) {
         return fmt::format("homeport_steps_total {}\nhomeport_failed_steps_total {}\n", 100 * t, 20 * bad(t));
       }},
      // 61 of 3,000, and 31 of 3,000.
      {"request_timeouts", 60, {}, [](auto t) { return gateway_counts(t, "homeport_gateway_timeouts_total"); }},
      {"refusals", 30, {}, [](auto t) { return gateway_counts(t, "homeport_refusals_total"); }},
      {"node_down", 0, {}, {}, [](std::int64_t t) { return !is_bad(t); }},
      {"no_token_progress", 60,
       [](std::int64_t t) {
         return fmt::format("vllm:num_requests_running 1\nhomeport_step_tokens_total {}\n", t - bad(t));
       }},
      {"kv_usage", 300, fixed("vllm:kv_cache_usage_perc", 0.8, 0.901)},
      // The slope over 121 points passes 0.1 with the third one; then two minutes.
      {"queue_growth", 122,
       [](std::int64_t t) { return fmt::format("vllm:num_requests_waiting {}\n", t < kEnd ? 30 + 60 * bad(t) : 0); }},
      // Down, up, down, up, down.
      {"node_flapping", 4, {}, {}, [](std::int64_t t) { return !is_bad(t) || t % 2 == 1; }},
      // k of 10 * (599 + k) since the first page, over a budget of one in a thousand.
      {"slo_burn_fast", 100, {}, given_up},
      {"slo_burn_medium", 38, {}, given_up, {}, false},
      {"slo_burn_slow", 6, {}, given_up, {}, false},
      {"gpu_xid", 0,
       [](std::int64_t t) { return fmt::format("homeport_gpu_xid_errors_total{{gpu=\"0\"}} {}\n", bad(t)); }},
      {"disk", 300, fixed("homeport_disk_free_bytes", 20, 9.9, "homeport_disk_total_bytes 100")},
      {"incident_store", 30, {}, fixed("homeport_ops_store_ok", 1, 0)},
      {"certificate", 1,
       [](std::int64_t t) {
         return fmt::format("homeport_certificate_expiry_seconds {}\n",
                            kOnset + 14 * 86'400 + (t < kEnd ? 0 : 9'999'999));
       }},
      {"dead_man", -kOnset, {}, {}, {}, false},
  };
}

struct Change {
  std::int64_t at;
  AlertPhase to;
};

/// The changes of the case's rule; `wall` is the time of day at a second.
std::vector<Change> run(const Case& c, std::int64_t last, const std::function<bool(std::int64_t)>& silent = {},
                        const std::function<std::int64_t(std::int64_t)>& wall = {}) {
  SeriesRun series(*load_rules());
  std::vector<Change> changes;
  for (std::int64_t t = 0; t <= last; ++t) {
    if (silent && silent(t)) continue;
    const std::string node = c.node ? c.node(t) : "", gateway = c.gateway ? c.gateway(t) : "";
    for (const AlertChange& change : series.round({.at_ms = t * 1000,
                                     .node = node,
                                     .gateway = gateway,
                                     .up = !c.up || c.up(t),
                                     .wall_ms = (wall ? wall(t) : t) * 1000}))
      if (change.rule->id == c.rule) changes.push_back({t, change.to});
  }
  return changes;
}

std::int64_t firing_at(const std::vector<Change>& changes) {
  const auto found = std::ranges::find(changes, AlertPhase::firing, &Change::to);
  return found == changes.end() ? -1 : found->at;
}

TEST(RuleSeries, ThereIsOneForEveryRule) {
  std::set<std::string_view> tested;
  const std::vector<Rule> rules = *load_rules();
  const std::vector<Case> all = cases();
  for (const Case& c : all) tested.insert(c.rule);
  for (const Rule& rule : rules) EXPECT_TRUE(tested.contains(rule.id)) << rule.id;
  EXPECT_EQ(tested.size(), rules.size());
}

TEST(RuleSeries, FiresAtItsSecondOnceAndEnds) {
  const std::vector<Rule> rules = *load_rules();
  for (const Case& c : cases()) {
    const auto rule = std::ranges::find(rules, c.rule, &Rule::id);
    const std::vector<Change> changes = run(c, kLast);
    EXPECT_EQ(firing_at(changes), kOnset + c.fires) << c.rule;
    std::vector<AlertPhase> wanted{AlertPhase::firing};
    if (rule->for_ms > 0) wanted.insert(wanted.begin(), AlertPhase::pending);
    if (c.ends) wanted.push_back(AlertPhase::inactive);
    std::vector<AlertPhase> seen;
    for (const Change& change : changes) seen.push_back(change.to);
    EXPECT_EQ(seen, wanted) << c.rule << ": neither twice nor in another order";
    if (!c.ends || changes.empty()) continue;
    EXPECT_GE(changes.back().at, kEnd + rule->clear_for_ms / 1000) << c.rule;
  }
}

TEST(RuleSeries, AFewBadRequestsAmongFewAreNoBurn) {
  for (const std::string_view rule : {"slo_burn_fast", "slo_burn_medium", "slo_burn_slow"}) {
    for (const std::int64_t failures : {1, 4, 5}) {  // one after the other, of one request a second
      const Case c{rule, 0, {}, [&](std::int64_t t) {
                     return fmt::format("homeport_gateway_requests_total {}\nhomeport_gateway_given_up_total {}\n", t,
                                        std::clamp<std::int64_t>(t - 20, 0, failures));
                   }};
      EXPECT_EQ(firing_at(run(c, 200)), failures < 5 ? -1 : 25) << rule << " after " << failures;
    }
  }
}

TEST(RuleSeries, HalfAMinuteWithoutReadingsInThePendingTimeChangesNothing) {
  for (const Case& c : cases()) {
    if (c.fires < 60) continue;
    EXPECT_EQ(firing_at(run(c, kEnd, [](std::int64_t t) { return t > kOnset + 10 && t < kOnset + 40; })),
              kOnset + c.fires)
        << c.rule;
  }
}

TEST(RuleSeries, TheTimeOfDayMayStep) {
  for (const Case& c : cases()) {
    if (c.rule == "certificate") continue;  // the one that is about the time of day
    for (const std::int64_t step : {-86'400, 86'400})
      EXPECT_EQ(firing_at(run(c, kOnset + 310, {}, [step](std::int64_t t) { return t > kOnset + 1 ? t + step : t; })),
                kOnset + c.fires)
          << c.rule << " by " << step;
  }
}

}  // namespace
}  // namespace hp::ops
