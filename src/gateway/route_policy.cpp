// What the policies share, and their names.
#include "gateway/route_policy.h"

#include <algorithm>

namespace hp::gateway {
namespace {
double load_per_weight(const NodeView& node) {
  return static_cast<double>(node.load_tokens) / node.weight;
}
}  // namespace

LoadCap load_cap(std::span<const NodeView> nodes, std::int64_t cost) {
  double load = static_cast<double>(cost), recent = load, weight = 0;
  for (const NodeView& node : nodes) {
    load += static_cast<double>(node.load_tokens);
    recent += node.recent_tokens;
    weight += node.weight;
  }
  return {.load = kLoadBound * load / weight, .recent = kRecentBound * recent / weight};
}

bool within_cap(const NodeView& node, std::int64_t cost, const LoadCap& cap) {
  const auto after = static_cast<double>(node.load_tokens + cost);
  const double recent = node.recent_tokens + static_cast<double>(cost);
  const auto slack = static_cast<double>(kSlackRequests * cost);
  const bool now = after <= cap.load * node.weight || after <= slack + static_cast<double>(cost);
  return now && (recent <= cap.recent * node.weight || recent <= static_cast<double>(kRecentSlackRequests * cost));
}

// The finalizer of SplitMix64 (Steele et al., 2014) over both words.
std::uint64_t rendezvous(std::uint64_t key, std::uint64_t name_hash) {
  std::uint64_t z = key ^ (name_hash * 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

std::size_t least_loaded(std::span<const NodeView> nodes) {
  const auto least = std::ranges::min_element(nodes, {}, load_per_weight);
  return static_cast<std::size_t>(least - nodes.begin());
}

Result<std::unique_ptr<RoutePolicy>> make_policy(std::string_view name) {
  if (name == "prefix") return prefix_affinity_policy();
  if (name == "least-tokens") return least_tokens_policy();
  if (name == "session") return session_hash_policy();
  if (name == "round-robin") return round_robin_policy();
  return fail(ErrorCode::invalid_argument,
              "the routing policy must be prefix, least-tokens, session or round-robin, found '{}'", name);
}

}  // namespace hp::gateway
