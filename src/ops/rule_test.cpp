#include "ops/rule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "ops/limits.h"

namespace hp::ops {
namespace {

const Rule& rule(std::string_view id) {
  static const std::vector<Rule> rules = *load_rules();
  for (const Rule& r : rules) {
    if (r.id == id) return r;
  }
  ADD_FAILURE() << id;
  return rules.front();
}

/// Samples every `step` ms; the time of the first change to `phase`, or -1.
std::int64_t first(const Rule& r, AlertState& state, AlertPhase phase, std::int64_t from, std::int64_t to,
                   std::int64_t step, double value) {
  for (std::int64_t t = from; t <= to; t += step) {
    const auto change = advance(r, state, t, value);
    if (change && change->to == phase) return t;
  }
  return -1;
}

TEST(Rules, TheSixOfTheBriefToTheFigure) {
  struct Row {
    const char* id;
    Level level;
    double threshold;
    std::int64_t for_ms, window_ms;
  };
  for (const Row& row :
       {Row{"gpu_temperature", Level::hardware, 85, 300'000, 0}, Row{"gpu_memory", Level::hardware, 0.9, 60'000, 0},
        Row{"latency_p99", Level::software, 0.5, 0, 300'000}, Row{"failed_batches", Level::software, 0.05, 0, 300'000},
        Row{"request_timeouts", Level::business, 0.02, 0, 300'000},
        Row{"refusals", Level::business, 0.01, 0, 300'000}}) {
    const Rule& r = rule(row.id);
    EXPECT_EQ(r.level, row.level) << row.id;
    EXPECT_EQ(r.threshold, row.threshold) << row.id;
    EXPECT_EQ(r.for_ms, row.for_ms) << row.id;
    EXPECT_EQ(r.window_ms, row.window_ms) << row.id;
    EXPECT_TRUE(r.above) << row.id;
  }
}

TEST(Rules, TheOthersToTheFigure) {
  struct Row {
    const char* id;
    double threshold;
    std::int64_t for_ms;
    bool above = true;
  };
  for (const Row& row : {Row{"no_token_progress", 0.5, 60'000}, Row{"kv_usage", 0.9, 300'000},
                         Row{"queue_growth", 0.1, 120'000}, Row{"node_flapping", 4, 0}, Row{"slo_burn_fast", 14.4, 0},
                         Row{"slo_burn_medium", 6, 0}, Row{"slo_burn_slow", 1, 0}, Row{"certificate", 14, 0, false},
                         Row{"disk", 0.9, 300'000}, Row{"dead_man", 0.5, 0}}) {
    const Rule& r = rule(row.id);
    EXPECT_EQ(r.threshold, row.threshold) << row.id;
    EXPECT_EQ(r.for_ms, row.for_ms) << row.id;
    EXPECT_EQ(r.above, row.above) << row.id;
  }
}

TEST(Rules, EveryRuleFiresExactlyAtItsDurationAndNotOneSampleBefore) {
  const std::vector<Rule> rules = *load_rules();
  for (const Rule& r : rules) {
    for (const std::int64_t step : {500, 1000, 5000, 15000, 7000}) {
      AlertState state;
      const double beyond = r.above ? r.threshold + 1e-6 : r.threshold - 1e-6;
      const std::int64_t start = 1'000'000;
      const std::int64_t expected = start + (r.for_ms + step - 1) / step * step;  // the first sample at or after it
      EXPECT_EQ(first(r, state, AlertPhase::firing, start, start + 2 * r.for_ms + step, step, beyond), expected)
          << r.id << " every " << step;
    }
    AlertState state;
    EXPECT_EQ(first(r, state, AlertPhase::firing, 0, 2 * r.for_ms + 10'000, 1000, r.threshold), -1)
        << r.id << ": at the threshold is not beyond it";
  }
}

TEST(Rules, NoneFlapsAtItsThreshold) {
  const std::vector<Rule> rules = *load_rules();
  for (const Rule& r : rules) {
    if (r.id == "dead_man") continue;  // its signal is 1 or absent
    AlertState state;
    const double beyond = r.above ? r.threshold + 1e-6 : r.threshold - 1e-6;
    const double behind = r.above ? r.threshold - 1e-6 : r.threshold + 1e-6;
    ASSERT_NE(first(r, state, AlertPhase::firing, 0, r.for_ms, 1000, beyond), -1) << r.id;
    int changes = 0;
    for (std::int64_t t = r.for_ms + 1000; t < r.for_ms + 3'600'000; t += 1000)
      changes += advance(r, state, t, t / 1000 % 2 == 0 ? beyond : behind) ? 1 : 0;
    EXPECT_EQ(changes, 0) << r.id;
    EXPECT_EQ(state.phase, AlertPhase::firing) << r.id;
  }
}

TEST(Rules, EveryAlertEndsExactlyAfterItsCalm) {
  const std::vector<Rule> rules = *load_rules();
  for (const Rule& r : rules) {
    AlertState state;
    const double beyond = r.above ? r.threshold + 1 : r.threshold - 1;
    const std::int64_t fired = first(r, state, AlertPhase::firing, 0, r.for_ms, 1000, beyond);
    const std::int64_t calm = fired + 1000;
    EXPECT_EQ(first(r, state, AlertPhase::inactive, calm, calm + 2 * r.clear_for_ms, 1000, r.clear),
              calm + r.clear_for_ms)
        << r.id;
  }
}

TEST(Rules, EveryOneSurvivesAGapAndAClockThatSteps) {
  const std::vector<Rule> rules = *load_rules();
  for (const Rule& r : rules) {
    const double beyond = r.above ? r.threshold + 1 : r.threshold - 1;
    const std::int64_t half = r.for_ms / 2, gap = std::min(limits::kMaxGapMs, r.for_ms - half);
    AlertState bridged, anew, back;
    if (r.for_ms > 0) {
      ASSERT_EQ(first(r, bridged, AlertPhase::firing, 0, half, 1000, beyond), -1) << r.id;
      EXPECT_EQ(first(r, bridged, AlertPhase::firing, half + gap, 2 * r.for_ms, 1000, beyond), r.for_ms) << r.id;
      first(r, anew, AlertPhase::firing, 0, half, 1000, beyond);
      const std::int64_t later = half + limits::kMaxGapMs + 1;
      EXPECT_EQ(first(r, anew, AlertPhase::firing, later, later + 2 * r.for_ms, 1000, beyond), later + r.for_ms)
          << r.id << ": a longer gap is no evidence";
      first(r, back, AlertPhase::firing, 7'200'000, 7'200'000 + half, 1000, beyond);
      EXPECT_EQ(first(r, back, AlertPhase::firing, 0, 2 * r.for_ms, 1000, beyond), r.for_ms - half)
          << r.id << ": two hours back are worth nothing";
    }
    AlertState firing;
    const std::int64_t fired = first(r, firing, AlertPhase::firing, 0, r.for_ms, 1000, beyond);
    for (const std::int64_t at : {fired + 86'400'000, fired - 86'400'000})
      EXPECT_EQ(advance(r, firing, at, beyond), std::nullopt) << r.id << ": it goes on";
  }
}

TEST(Rules, OneSampleBackStartsThePendingTimeAnew) {
  const Rule& r = rule("gpu_temperature");
  AlertState state;
  EXPECT_EQ(first(r, state, AlertPhase::firing, 0, 299'000, 1000, 90), -1);
  EXPECT_EQ(state.phase, AlertPhase::pending);
  advance(r, state, 299'500, 85);
  EXPECT_EQ(state.phase, AlertPhase::inactive);
  EXPECT_EQ(first(r, state, AlertPhase::firing, 300'000, 900'000, 1000, 90), 600'000);
}

TEST(Rules, HysteresisEndsAFiringAlertAndNothingFlapsAtTheThreshold) {
  const Rule& r = rule("gpu_memory");  // above 0.9 for 60 s, ends at 0.87 for 60 s
  AlertState state;
  ASSERT_EQ(first(r, state, AlertPhase::firing, 0, 60'000, 1000, 0.95), 60'000);
  int changes = 0;
  for (std::int64_t t = 61'000; t < 600'000; t += 1000)
    changes += advance(r, state, t, t % 2000 == 0 ? 0.901 : 0.899) ? 1 : 0;
  EXPECT_EQ(changes, 0) << "around the threshold";
  EXPECT_EQ(first(r, state, AlertPhase::inactive, 600'000, 659'000, 1000, 0.5), -1);
  EXPECT_EQ(first(r, state, AlertPhase::inactive, 660'000, 660'000, 1000, 0.5), 660'000);
}

TEST(Rules, AShortGapIsBridgedALongOneIsNot) {
  const Rule& r = rule("gpu_temperature");
  AlertState state;
  first(r, state, AlertPhase::firing, 0, 100'000, 1000, 90);
  EXPECT_EQ(first(r, state, AlertPhase::firing, 100'000 + limits::kMaxGapMs, 400'000, 1000, 90), 300'000)
      << "60 s without data";
  AlertState other;
  first(r, other, AlertPhase::firing, 0, 100'000, 1000, 90);
  const std::int64_t back = 100'000 + limits::kMaxGapMs + 1;
  EXPECT_EQ(first(r, other, AlertPhase::firing, back, 900'000, 1000, 90), back + 300'000) << "anew after a longer gap";
  // Firing through a gap: silence is not recovery, and calm before the gap does not count after it.
  advance(r, other, 950'000, 50);
  EXPECT_EQ(advance(r, other, 2'000'000, 50), std::nullopt);
  EXPECT_EQ(other.phase, AlertPhase::firing);
  EXPECT_EQ(first(r, other, AlertPhase::inactive, 2'001'000, 2'100'000, 1000, 50), 2'060'000);
}

TEST(Rules, AClockThatStepsNeitherFiresNorHides) {
  const Rule& r = rule("gpu_temperature");
  AlertState state;
  first(r, state, AlertPhase::firing, 1'000'000, 1'100'000, 1000, 90);
  EXPECT_EQ(first(r, state, AlertPhase::firing, 50'000, 249'000, 1000, 90), -1)
      << "an hour back: 100 s are kept, the step is worth 0";
  EXPECT_EQ(first(r, state, AlertPhase::firing, 250'000, 250'000, 1000, 90), 250'000);
  AlertState forward;
  advance(r, forward, 0, 90);
  EXPECT_EQ(advance(r, forward, 86'400'000, 90), std::nullopt) << "a day ahead is no evidence";
}

TEST(Rules, NotANumberIsNoBreach) {
  AlertState state;
  EXPECT_EQ(advance(rule("latency_p99"), state, 0, std::numeric_limits<double>::quiet_NaN()), std::nullopt);
}

TEST(Rules, OverridesByIdWithSuggestions) {
  const auto rules = load_rules("[gpu_temperature]\nabove = 80\nfor_s = 10\n[latency_p99]\nabove = 2\n", "mine.toml");
  ASSERT_TRUE(rules.has_value()) << rules.error().message;
  std::map<std::string, const Rule*> by_id;
  for (const Rule& r : *rules) by_id[r.id] = &r;
  EXPECT_EQ(by_id["gpu_temperature"]->for_ms, 10'000);
  EXPECT_EQ(by_id["gpu_temperature"]->clear, 80) << "an end above the new threshold is moved";
  EXPECT_EQ(by_id["latency_p99"]->clear, 0.45);
  const auto message = [](std::string_view toml) { return load_rules(toml, "mine.toml").error().message; };
  EXPECT_EQ(message("[gpu_temprature]\nabove = 1\n"),
            "mine.toml: expected one table per rule, found 'gpu_temprature'; did you mean [gpu_temperature]?");
  EXPECT_EQ(message("[disk]\nabvoe = 1\n"), "mine.toml: disk: unknown key 'abvoe'; did you mean 'above'?");
  EXPECT_NE(message("[disk]\nfor_s = -1\n").find("expected a number from 0"), std::string::npos);
  EXPECT_NE(message("[disk]\nabove = 0.5\nclear = 0.8\n").find("behind the threshold"), std::string::npos);
}

TEST(Rules, ExportCarriesThresholdsAndBothLanguages) {
  const std::string yaml = prometheus_rules(*load_rules());
  EXPECT_NE(yaml.find("alert: HomeportGpuTemperature"), std::string::npos);
  EXPECT_NE(yaml.find("> 85\n        for: 300s"), std::string::npos);
  EXPECT_NE(yaml.find("[300s]))) > 0.5"), std::string::npos);
  EXPECT_NE(yaml.find("超时请求超过 2 %"), std::string::npos);
  EXPECT_EQ(yaml.find("{threshold"), std::string::npos);
  EXPECT_EQ(yaml.find("{window"), std::string::npos);
  EXPECT_EQ(yaml.find("{for"), std::string::npos);
  EXPECT_NE(yaml.find("offset 60s"), std::string::npos) << "what looks back itself has no further 'for'";
}

}  // namespace
}  // namespace hp::ops
