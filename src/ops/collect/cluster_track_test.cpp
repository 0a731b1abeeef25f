#include "ops/collect/cluster_track.h"

#include <gtest/gtest.h>

#include "ops/collect/page.h"

namespace hp::ops {
namespace {

std::optional<double> signal(const ClusterTrack& track, std::string_view name, std::int64_t at_ms) {
  for (const SignalSample& sample : track.signals({.at_ms = at_ms, .wall_ms = at_ms}))
    if (sample.signal == name) return sample.value;
  return std::nullopt;
}

/// A gateway's page with so many requests open, and its store's state.
Page gateway(int open, int store_ok = 1) {
  return read_page(fmt::format("homeport_gateway_open_requests {}\nhomeport_ops_store_ok {}\n", open, store_ok));
}

/// A node's page after `quick` first tokens within 0.1 s and `late` ones within 5 s.
Page node(int quick, int late) {
  return read_page(
      fmt::format("vllm:time_to_first_token_seconds_bucket{{le=\"0.1\"}} {0}\n"
                  "vllm:time_to_first_token_seconds_bucket{{le=\"5\"}} {1}\n"
                  "vllm:time_to_first_token_seconds_bucket{{le=\"+Inf\"}} {1}\n",
                  quick, quick + late));
}

TEST(ClusterTrack, NoFirstTokenAtAllIsNoGoodNewsWhileRequestsAreOpen) {
  std::vector<Rule> rules = *load_rules("[latency_p99]\nwindow_s = 10\n", "test");
  ClusterTrack track(rules);
  const std::vector<KnownNode> nodes{{.name = "a", .condition = NodeCondition::ready}};
  const auto read = [&](std::int64_t at_ms, const Page& page, int open) {
    track.round({.at_ms = at_ms, .wall_ms = at_ms}, nodes);
    track.gateway_page(at_ms, gateway(open));
    track.node("a").page(at_ms, at_ms, page);
  };
  read(0, node(0, 0), 1);
  read(5'000, node(10, 10), 1);
  EXPECT_GT(signal(track, "ttft_p99_seconds", 5'000).value_or(0), 1);
  for (std::int64_t at = 10'000; at <= 30'000; at += 5'000) read(at, node(10, 10), 4);
  EXPECT_EQ(signal(track, "ttft_p99_seconds", 30'000), std::nullopt) << "an alert stays as it is";
  read(35'000, node(10, 10), 0);
  EXPECT_EQ(signal(track, "ttft_p99_seconds", 35'000), 0) << "nobody waits";
}

TEST(ClusterTrack, AStoreThatCannotWriteIsASignal) {
  ClusterTrack track(*load_rules());
  track.gateway_page(0, gateway(0));
  EXPECT_EQ(signal(track, "store_failed", 0), 0);
  track.gateway_page(1'000, gateway(0, 0));
  EXPECT_EQ(signal(track, "store_failed", 1'000), 1);
}

}  // namespace
}  // namespace hp::ops
