#include "planner/autoscale.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "planner/autoscale_sim.h"

namespace hp::planner {
namespace {

const ScalingPolicy kPolicy{.min_replicas = 1, .max_replicas = 20, .replica_rps = 2, .utilization_target = 0.8};

TEST(ScalingLaw, EachSignalAsksForReplicas) {
  struct Row {
    ScalingSignals signals;
    int want;
    const char* why;
  };
  for (const Row& row :
       {Row{{.arrivals_per_s = 1.5, .ready = 1}, 1, "enough"}, Row{{.arrivals_per_s = 8, .ready = 1}, 5, "load"},
        Row{{.arrivals_per_s = 1, .queued = 482, .ready = 1}, 3, "queue"},
        Row{{.arrivals_per_s = 1, .kv_usage = 1, .ready = 10}, 12, "KV"},
        Row{{.arrivals_per_s = 1, .ttft_p99_s = 2.4, .ready = 10}, 12, "latency"},
        Row{{.arrivals_per_s = 1, .ttft_p99_s = 60, .ready = 10}, 15, "latency alone grows by half"},
        Row{{.arrivals_per_s = 1000, .ready = 10}, 20, "never above the maximum"}}) {
    ScalingState state;
    EXPECT_EQ(wanted_replicas(kPolicy, state, row.signals), row.want) << row.why;
  }
}

TEST(ScalingLaw, UpAtOnceDownOneByOneAfterTheWindow) {
  ScalingState state;
  int have = 8;
  std::vector<double> downs;
  for (double t = 0; t <= 1200; t += 15) {
    const int want = wanted_replicas(kPolicy, state, {.now_s = t, .arrivals_per_s = 3, .ready = have});
    EXPECT_GE(want, have - 1);
    if (want < have) downs.push_back(t);
    have = want;
  }
  ASSERT_EQ(downs.size(), 6U) << "8 to 2";
  EXPECT_GE(downs.front(), 0.9 * kPolicy.down_window_s);
  for (std::size_t i = 1; i < downs.size(); ++i) EXPECT_GE(downs[i] - downs[i - 1], kPolicy.down_step_s);
  EXPECT_EQ(wanted_replicas(kPolicy, state, {.now_s = 1215, .arrivals_per_s = 30, .ready = have}), 20) << "up at once";
}

TEST(ScalingLaw, ARisingLoadIsMetBeforeItIsThere) {
  ScalingState state;
  int want = 0;
  for (double t = 0; t <= 240; t += 15)
    want = wanted_replicas(kPolicy, state, {.now_s = t, .arrivals_per_s = 2 + t / 60, .ready = 2});
  EXPECT_EQ(want, 5) << "6/s now and 2/s more by the time a replica is warm: 8 / 1.6";
  EXPECT_EQ(wanted_replicas(kPolicy, state, {.now_s = 5, .arrivals_per_s = 1, .ready = 1}), 1)
      << "a clock that stepped back forgets";
}

TEST(Simulation, CarriesWhatItCanAndIsDeterministic) {
  const LoadCurve flat{.name = "flat", .step_s = 600, .requests_per_second = {3, 3, 3, 3}};
  SimulationInputs in{.scaler = Scaler::fixed, .fixed_replicas = 4};
  const SimulationResult a = simulate(flat, in), b = simulate(flat, in);
  EXPECT_EQ(a.requests, b.requests);
  EXPECT_EQ(a.ttft_p99_s, b.ttft_p99_s);
  EXPECT_NEAR(static_cast<double>(a.requests), 7200, 300);
  EXPECT_GT(a.slo_attainment, 0.999);
  EXPECT_NEAR(a.replica_hours, 4 * 2400 / 3600.0, 0.01);
  in.fixed_replicas = 1;
  EXPECT_LT(simulate(flat, in).slo_attainment, 0.2) << "one replica drowns";
  in.seed = 2;
  in.fixed_replicas = 4;
  EXPECT_NE(simulate(flat, in).requests, a.requests);
}

TEST(Simulation, TheLawUsesItsReplicasBetterAtEqualService) {
  const std::vector<LoadCurve> curves = shipped_curves(12);
  ASSERT_EQ(curves.size(), 4U);
  // Two of the four, for the time it takes; homeport plan autoscale runs all.
  const std::vector<Comparison> all = compare_scalers({curves[0], curves[3]}, {}, 0.99);
  for (const Comparison& c : all) {
    EXPECT_GE(c.law.slo_attainment, 0.99) << c.curve;
    EXPECT_GE(c.fixed.slo_attainment, 0.99) << c.curve;
    EXPECT_LT(c.law.replica_hours, c.hpa.replica_hours) << c.curve;
  }
  EXPECT_GT(all[0].gain(), 0.4) << "a daily curve: the market's claim";
  EXPECT_NEAR(all[1].gain(), 0, 0.05) << "spikes faster than the warm-up: nothing to win, nothing lost";
  const Answer answer = answer_autoscale(all, {}, 0.99, Language::zh);
  EXPECT_TRUE(JsonValue::parse(answer.json).has_value());
}

TEST(Curve, BadLinesAreNamed) {
  EXPECT_EQ(curve_from_csv("1\n2\nx\n", "load.csv", 60).error().message,
            "load.csv:3: expected requests per second as one number from 0 up, found 'x'");
  EXPECT_FALSE(curve_from_csv("", "load.csv", 60).has_value());
  EXPECT_FALSE(curve_from_csv("-1\n", "load.csv", 60).has_value());
}

}  // namespace
}  // namespace hp::planner
