#include "gateway/route_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "gateway/retry_budget.h"

namespace hp::gateway {
namespace {

std::vector<NodeView> cluster(std::size_t count, std::int64_t load = 0) {
  std::vector<NodeView> nodes;
  for (std::uint32_t i = 0; i < count; ++i)
    nodes.push_back({.node = i, .name_hash = 0x1234567u * (i + 1), .load_tokens = load});
  return nodes;
}

TEST(RoutePolicy, NamesAndUnknownNames) {
  for (const char* name : {"prefix", "least-tokens", "session", "round-robin"}) {
    const auto policy = make_policy(name);
    ASSERT_TRUE(policy);
    EXPECT_EQ((*policy)->name(), name);
    EXPECT_EQ((*policy)->pick({}, cluster(1)), 0u);
  }
  EXPECT_FALSE(make_policy("random"));
}

TEST(RoutePolicy, PrefixTable) {
  struct Case {
    const char* what;
    std::vector<std::uint32_t> matched;
    std::vector<std::int64_t> load;
    std::vector<double> weight;
    std::size_t expected;
  };
  const Case cases[] = {
      {"the longest match", {0, 4096, 1024}, {0, 0, 0}, {1, 1, 1}, 1},
      {"also when it has more load", {0, 4096, 1024}, {900, 1000, 900}, {1, 1, 1}, 1},
      {"not beyond its share", {0, 4096, 1024}, {900, 2000, 900}, {1, 1, 1}, 2},
      {"its share grows with its weight", {0, 4096, 1024}, {900, 2000, 900}, {1, 4, 1}, 1},
      {"a fresh node's share is small", {0, 4096, 1024}, {900, 900, 900}, {1, 0.1, 1}, 2},
      {"an idle node is always good", {0, 4096, 0}, {5000, 0, 5000}, {1, 0.1, 1}, 1},
  };
  const auto policy = prefix_affinity_policy();
  for (const Case& c : cases) {
    auto nodes = cluster(3);
    for (std::size_t i = 0; i < 3; ++i) {
      nodes[i].matched_bytes = c.matched[i];
      nodes[i].load_tokens = c.load[i];
      nodes[i].weight = c.weight[i];
    }
    EXPECT_EQ(policy->pick({.cost_tokens = 100, .prefix_key = 7}, nodes), c.expected) << c.what;
  }
}

TEST(RoutePolicy, HashingKeepsKeysInPlaceWhenANodeLeaves) {
  for (const auto& policy : {prefix_affinity_policy(), session_hash_policy()}) {
    const auto four = cluster(4);
    auto three = four;
    three.erase(three.begin() + 2);
    std::map<std::uint32_t, int> share;
    for (std::uint64_t key = 1; key <= 4000; ++key) {
      const RouteQuery query{.prefix_key = key * 77, .session_key = key};
      const auto before = four[policy->pick(query, four)].node;
      const auto after = three[policy->pick(query, three)].node;
      if (before != 2) {
        EXPECT_EQ(before, after) << key;
      }
      ++share[before];
    }
    for (const auto& [node, count] : share) EXPECT_NEAR(count, 1000, 130) << policy->name() << node;
  }
}

TEST(RoutePolicy, ASkewedLoadStaysWithinTheBound) {
  for (const auto& policy : {prefix_affinity_policy(), session_hash_policy()}) {
    auto nodes = cluster(4);
    for (std::uint64_t i = 0; i < 2000; ++i) {
      const std::uint64_t key = i % 10 < 8 ? 1 : i;  // four in five want the same node
      nodes[policy->pick({.cost_tokens = 10, .prefix_key = key, .session_key = key}, nodes)].load_tokens += 10;
    }
    for (const NodeView& node : nodes) EXPECT_LE(node.load_tokens, 1.25 * 5000 + 90) << policy->name();
  }
}

TEST(RoutePolicy, APopularPrefixDoesNotKeepItsNodeBusierThanTheRestForLong) {
  const auto policy = prefix_affinity_policy();
  auto nodes = cluster(4);
  std::vector<double> sent(4);
  for (std::uint64_t i = 0; i < 2000; ++i) {  // one at a time: nothing is outstanding
    for (auto& node : nodes) node.matched_bytes = node.node == 1 ? 4096 : 0;
    const auto pick = policy->pick({.cost_tokens = 10, .prefix_key = i % 3}, nodes);
    nodes[pick].recent_tokens += 10;
    sent[pick] += 1;
  }
  for (const double count : sent) EXPECT_LE(count, 1.25 * 500);
}

TEST(RoutePolicy, TwoChoicesTakeTheLessLoadedAndRoundRobinTakesTurns) {
  auto nodes = cluster(2);
  nodes[0].load_tokens = 100;
  const auto least = least_tokens_policy();
  for (std::uint64_t r = 0; r < 100; ++r) EXPECT_EQ(least->pick({.random = r * 0x9e3779b97f4a7c15ULL}, nodes), 1u);
  nodes[1].weight = 0.001;
  nodes[1].load_tokens = 1;
  EXPECT_EQ(least->pick({.random = 12345}, nodes), 0u);
  const auto turns = round_robin_policy();
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(turns->pick({.sequence = i}, cluster(3)), i % 3);
}

TEST(RetryBudget, IsAShareOfTheRequests) {
  RetryBudget budget(0.1, 10);
  int taken = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget.on_request();
    while (budget.take()) ++taken;
  }
  EXPECT_LE(taken, 1'010);
  EXPECT_GE(taken, 1'000);
}

TEST(RetryBudget, BackoffIsJitteredAndBounded) {
  std::int64_t longest = 0, sum = 0;
  for (std::uint64_t key = 0; key < 1000; ++key) {
    EXPECT_LT(backoff(key, 0).count(), 25);
    const auto late = backoff(key, 40).count();
    longest = std::max(longest, late);
    sum += late;
  }
  EXPECT_LT(longest, 1000);
  EXPECT_NEAR(static_cast<double>(sum) / 1000, 500, 50);
}

}  // namespace
}  // namespace hp::gateway
