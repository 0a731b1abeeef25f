#include "gateway/node_table.h"

#include <gtest/gtest.h>

#include <set>

#include "gateway/stream_record.h"

namespace hp::gateway {
namespace {
using namespace std::chrono_literals;

class NodeTableTest : public testing::Test {
 protected:
  void configure(const std::vector<std::string>& texts) {
    std::vector<NodeConfig> nodes;
    for (const auto& text : texts) nodes.push_back(parse_node(text).value());
    table_.configure(nodes);
  }
  void ready(NodeIndex node, std::vector<std::string> models = {}) {
    table_.set_ready(node, true, false, std::move(models));
  }
  ManualClock clock_;
  MetricsRegistry metrics_;
  NodeTable table_{least_tokens_policy(), clock_, metrics_};
};

TEST(ParseNode, AddressesAndOptions) {
  const auto full = parse_node("a=[::1]:9000;priority=2;capacity=0.5;kind=openai;key=s3cret");
  ASSERT_TRUE(full) << full.error().message;
  EXPECT_EQ(full->name, "a");
  EXPECT_EQ(full->host, "::1");
  EXPECT_EQ(full->port, 9000);
  EXPECT_EQ(full->priority, 2);
  EXPECT_EQ(full->capacity, 0.5);
  EXPECT_FALSE(full->homeport);
  EXPECT_EQ(parse_node("unix:/tmp/x.sock")->host, "unix:/tmp/x.sock");
  EXPECT_EQ(parse_node("http://node-1:8000/")->host, "node-1");
  for (const char* wrong :
       {"", "host", "host:", "host:x", "host:70000", ":80", "h:1;x=y", "h:1;capacity=0", "h:1;kind=z"})
    EXPECT_FALSE(parse_node(wrong)) << wrong;
}

TEST_F(NodeTableTest, OnlyUsableNodesGetRequestsAndLoadCountsAtDispatch) {
  configure({"a=h:1", "b=h:2"});
  EXPECT_FALSE(table_.dispatch({}));
  ready(0);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(table_.dispatch({.cost_tokens = 10}), 0u);
  ready(1);
  clock_.advance(1min);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(table_.dispatch({.cost_tokens = 10}), 1u);
  EXPECT_EQ(table_.status()[0].load_tokens, 50);
  table_.release(0, 10);
  EXPECT_EQ(table_.status()[0].requests, 4);
  table_.set_ready(0, false, true);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(table_.dispatch({.cost_tokens = 10}), 1u);
  table_.trip(1, "test");
  EXPECT_FALSE(table_.dispatch({}));
  EXPECT_EQ(table_.usable(), 0u);
}

TEST_F(NodeTableTest, AvoidsANodeOnlyWhenThereIsAnotherAndPrefersThoseWithTheModel) {
  configure({"a=h:1", "b=h:2", "c=h:3;kind=openai"});
  ready(0, {"m"});
  ready(1, {"m", "k"});
  ready(2, {"m"});
  for (std::uint64_t r = 0; r < 20; ++r) {
    EXPECT_NE(table_.dispatch({.model = "m", .random = r << 32 | r, .avoid = 0}), 0u);
    EXPECT_EQ(table_.dispatch({.model = "k", .random = r}), 1u);
    EXPECT_EQ(table_.dispatch({.model = "k", .random = r, .avoid = 1}), 1u);
    EXPECT_NE(table_.dispatch({.model = "m", .random = r << 32 | r, .need_journal = true}), 2u);
  }
  EXPECT_TRUE(table_.dispatch({.model = "unknown"})) << "the node says what is wrong with it";
  EXPECT_EQ(table_.models(), (std::vector<std::string>{"k", "m"}));
  EXPECT_TRUE(table_.has_other(0, "k"));
  EXPECT_FALSE(table_.has_other(1, "k"));
}

TEST_F(NodeTableTest, AStreamStaysWithItsWeightsEvenWhereAnotherGroupServes) {
  configure({"a=h:1", "b=h:2", "variant=h:3;priority=1"});
  for (NodeIndex i = 0; i < 3; ++i) {
    ready(i);
    table_.set_identity(i, i == 2 ? "other" : "one");
  }
  table_.steer({.prefer = 1, .beside = {}});
  EXPECT_EQ(table_.dispatch({}), 2u);
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(table_.dispatch({.avoid = 0, .need_journal = true, .weights = weights_tag("one")}), 1u)
        << "the old group goes on";
  EXPECT_EQ(table_.dispatch({.need_journal = true, .weights = weights_tag("other")}), 2u);
  EXPECT_FALSE(table_.dispatch({.need_journal = true, .weights = weights_tag("third")}));
  EXPECT_TRUE(table_.has_other(0, "m", weights_tag("one")));
  EXPECT_TRUE(table_.has_other(2, "m"));
  EXPECT_FALSE(table_.has_other(2, "m", weights_tag("other")));
}

TEST_F(NodeTableTest, BackPressureRestsANodeWithoutOpeningItsBreaker) {
  configure({"a=h:1"});
  ready(0);
  table_.report(0, Outcome::back_pressure);
  table_.back_off(0, 2s);
  EXPECT_FALSE(table_.dispatch({}));
  clock_.advance(2s);
  EXPECT_TRUE(table_.dispatch({}));
}

TEST_F(NodeTableTest, AStandbyGroupTakesOverAtOnceAndHandsBackLater) {
  configure({"a=h:1", "b=h:2;priority=1"});
  ready(0);
  ready(1);
  EXPECT_EQ(table_.dispatch({}), 0u);
  table_.set_ready(0, false, false);
  EXPECT_EQ(table_.dispatch({}), 1u);
  ready(0);
  EXPECT_EQ(table_.dispatch({}), 1u);
  clock_.advance(5s);
  table_.set_ready(0, false, false);
  EXPECT_EQ(table_.dispatch({}), 1u);
  ready(0);
  clock_.advance(6s);
  EXPECT_EQ(table_.dispatch({}), 1u) << "the better group has to be usable for 10 s without a break";
  clock_.advance(11s);
  EXPECT_EQ(table_.dispatch({}), 0u);
}

TEST_F(NodeTableTest, SteeringPrefersAGroupOrLetsItServeBesideAndIsTakenBack) {
  configure({"a=h:1", "b=h:2;priority=1", "c=h:3;priority=2"});
  for (NodeIndex i = 0; i < 3; ++i) ready(i);
  const auto served_by = [&] {
    std::multiset<NodeIndex> all;
    for (std::uint64_t r = 0; r < 40; ++r)
      if (const auto node = table_.dispatch({.cost_tokens = 10, .random = r << 32 | (r * 7)})) all.insert(*node);
    for (const NodeIndex node : all) table_.release(node, 10);
    return std::set<NodeIndex>(all.begin(), all.end());
  };
  EXPECT_EQ(served_by(), (std::set<NodeIndex>{0}));
  table_.steer({.prefer = {}, .beside = 2});
  EXPECT_EQ(served_by(), (std::set<NodeIndex>{0, 2}));
  EXPECT_TRUE(table_.status()[2].serving);
  EXPECT_FALSE(table_.status()[1].serving);
  table_.steer({.prefer = 1, .beside = {}});
  EXPECT_EQ(served_by(), (std::set<NodeIndex>{1})) << "at once, though a better group is usable";
  EXPECT_EQ(table_.steering().prefer, 1);
  table_.set_ready(1, false, false);
  EXPECT_EQ(served_by(), (std::set<NodeIndex>{0})) << "a preferred group without a usable node is no group";
  ready(1);
  EXPECT_EQ(served_by(), (std::set<NodeIndex>{1}));
  table_.steer({});
  clock_.advance(1min);
  served_by();
  clock_.advance(1min);
  EXPECT_EQ(served_by(), (std::set<NodeIndex>{0}));
}

TEST_F(NodeTableTest, AHeldNodeGetsNothingUntilItIsLetIn) {
  configure({"a=h:1", "b=h:2"});
  ready(0);
  ready(1);
  const std::uint32_t epoch = table_.epoch(0);
  EXPECT_FALSE(table_.hold("nobody", true));
  ASSERT_TRUE(table_.hold("a", true));
  EXPECT_TRUE(table_.status()[0].held);
  EXPECT_TRUE(table_.leaving(0) || table_.epoch(0) != epoch) << "its streams move on";
  for (int i = 0; i < 8; ++i) EXPECT_EQ(table_.dispatch({.cost_tokens = 10}), 1u);
  ASSERT_TRUE(table_.hold("a", false));
  clock_.advance(1min);
  EXPECT_EQ(table_.dispatch({.cost_tokens = 10}), 0u) << "and is the emptier one now";
}

TEST_F(NodeTableTest, TheLoadGoesBackWithoutARequest) {
  configure({"a=h:1", "b=h:2;priority=1"});
  clock_.advance(1min);
  const auto serving = [&] { return table_.status()[0].serving ? 0 : 1; };
  ready(1);
  table_.review();
  EXPECT_EQ(serving(), 1);
  ready(0);
  table_.review();
  EXPECT_EQ(serving(), 0) << "nobody was served yet";
  EXPECT_EQ(table_.dispatch({}), 0u);
  table_.set_ready(0, false, false);
  table_.review();
  EXPECT_EQ(serving(), 1);
  ready(0);
  table_.review();
  clock_.advance(9s);
  table_.review();
  EXPECT_EQ(serving(), 1);
  clock_.advance(1s);
  table_.review();
  EXPECT_EQ(serving(), 0);
  EXPECT_EQ(metrics_.gauge("homeport_gateway_serving_priority", "").value(), 0);
  EXPECT_EQ(metrics_.counter("homeport_gateway_handovers_total", "").value(), 2);
}

TEST_F(NodeTableTest, TheStallBoundFollowsTheNodesOwnPace) {
  configure({"a=h:1"});
  EXPECT_EQ(table_.stall_bound(0), kStallUnknown);
  table_.note_gap(0, 20ms);
  EXPECT_EQ(table_.stall_bound(0), kStallMin);
  table_.note_gap(0, 2s);
  EXPECT_EQ(table_.stall_bound(0), 12s);
  for (int i = 0; i < 100; ++i) {
    clock_.advance(2s);
    table_.note_gap(0, 20ms);
    table_.note_gap(0, 600ms);
  }
  EXPECT_NEAR(to_seconds(table_.stall_bound(0)), 3.6, 0.4);
  table_.note_gap(0, 60s);
  EXPECT_EQ(table_.stall_bound(0), kStallMax);
}

TEST_F(NodeTableTest, TheBoundOfSilenceFollowsTheNodesOwnBytes) {
  configure({"a=h:1"});
  ready(0);
  EXPECT_EQ(table_.silence_bound(0), kSilenceIdle);
  const auto hear_after = [&](Duration pause) {
    clock_.advance(pause);
    table_.touch(0, clock_.now());
  };
  hear_after(0s);
  for (int i = 0; i < 10; ++i) hear_after(50ms);
  EXPECT_EQ(table_.silence_bound(0), kStallMin);
  hear_after(900ms);
  EXPECT_EQ(table_.silence_bound(0), 2700ms);
  for (int i = 0; i < 800; ++i) hear_after(50ms);
  EXPECT_EQ(table_.silence_bound(0), kStallMin) << "two half-lives later";
  clock_.advance(5s);
  table_.excuse_silence(clock_.now());
  hear_after(50ms);
  EXPECT_EQ(table_.silence_bound(0), kStallMin) << "our own pause is not the node's";
}

TEST_F(NodeTableTest, ASilentNodeGetsNothingBeforeItHasSaidSomething) {
  configure({"a=h:1"});
  ready(0);
  table_.touch(0, clock_.now());
  const std::uint64_t losses = table_.losses();
  const std::uint32_t epoch = table_.epoch(0);
  clock_.advance(2s);
  table_.trip_silent(0, 2s);
  EXPECT_NE(table_.epoch(0), epoch) << "its streams leave";
  EXPECT_EQ(table_.losses(), losses + 1);
  clock_.advance(1min);  // its breaker would let a request try
  EXPECT_EQ(table_.dispatch({}), std::nullopt);
  EXPECT_TRUE(table_.status()[0].silent);
  table_.excuse_silence(clock_.now());
  EXPECT_TRUE(table_.status()[0].silent);
  table_.touch(0, clock_.now());
  EXPECT_FALSE(table_.status()[0].silent);
  EXPECT_EQ(table_.dispatch({}), 0u);
  table_.touch(0, clock_.now());
  EXPECT_EQ(table_.silence_bound(0), kSilenceIdle) << "being dead is no pace";
}

TEST_F(NodeTableTest, LeavingTheConfigurationMovesStreamsAndComingBackWorks) {
  configure({"a=h:1", "b=h:2"});
  ready(0);
  ready(1);
  configure({"b=h:2"});
  EXPECT_TRUE(table_.leaving(0));
  EXPECT_FALSE(table_.leaving(1));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(table_.dispatch({.random = std::uint64_t(i)}), 1u);
  configure({"b=h:2", "a=h:1"});
  EXPECT_EQ(table_.usable(), 2u);
  EXPECT_FALSE(table_.leaving(0));
}

TEST_F(NodeTableTest, AffinityFollowsThePrefixAndIsForgottenWithTheNode) {
  table_.set_policy(prefix_affinity_policy());
  configure({"a=h:1", "b=h:2", "c=h:3"});
  for (NodeIndex i = 0; i < 3; ++i) ready(i);
  clock_.advance(1min);
  PrefixHashes prefix;
  prefix.add_text(std::string(3000, 'x'));
  const auto home = table_.dispatch({.prefix = &prefix, .cost_tokens = 100});
  ASSERT_TRUE(home);
  for (int i = 0; i < 10; ++i) {
    PrefixHashes longer;
    longer.add_text(std::string(3000, 'x') + std::to_string(i) + std::string(900, 'y'));
    table_.release(*home, 100);
    EXPECT_EQ(table_.dispatch({.prefix = &longer, .cost_tokens = 100}), home);
  }
}

}  // namespace
}  // namespace hp::gateway
