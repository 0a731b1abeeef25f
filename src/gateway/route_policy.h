// Which node gets a request: the seam, and the plain state a policy sees. A policy is a pure function of the two
// structs: no clock, no lock, no memory, so that a table of cases tests it whole.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"

namespace hp::gateway {

/// A node that may take the request, as the node table counts it at this moment.
struct NodeView {
  std::uint32_t node = 0;           ///< index in the node table
  std::uint64_t name_hash = 0;      ///< the same on every gateway
  double weight = 1;                ///< capacity share, ramped up while the node is fresh; > 0
  std::int64_t load_tokens = 0;     ///< outstanding, counted at dispatch
  double recent_tokens = 0;         ///< sent to it lately, decaying: so that idle nodes share the work as well
  std::uint32_t matched_bytes = 0;  ///< of the request's prefix that this node has seen lately
};

struct RouteQuery {
  std::int64_t cost_tokens = 1;   ///< what this request adds to the load
  std::uint64_t prefix_key = 0;   ///< hash of the prompt's first bytes
  std::uint64_t session_key = 0;  ///< hash of session or user; 0: none given
  std::uint64_t sequence = 0;     ///< counts requests
  std::uint64_t random = 0;
};

class RoutePolicy {
 public:
  virtual ~RoutePolicy() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// An index into `nodes`, which is not empty.
  [[nodiscard]] virtual std::size_t pick(const RouteQuery& query, std::span<const NodeView> nodes) const = 0;
};

std::unique_ptr<RoutePolicy> prefix_affinity_policy();
std::unique_ptr<RoutePolicy> least_tokens_policy();
std::unique_ptr<RoutePolicy> session_hash_policy();
std::unique_ptr<RoutePolicy> round_robin_policy();
/// "prefix", "least-tokens", "session" or "round-robin".
Result<std::unique_ptr<RoutePolicy>> make_policy(std::string_view name);

/// No node takes more than this times its share of the load, while another has room (Mirrokni et al., "Consistent
/// hashing with bounded loads", 2018).
inline constexpr double kLoadBound = 1.25;
inline constexpr double kRecentBound = 1.15;  ///< the same over the last minute's work

/// With few requests at once a share is less than one of them: so many are always within it, so that affinity counts.
inline constexpr std::int64_t kSlackRequests = 8;
inline constexpr std::int64_t kRecentSlackRequests = 64;  ///< one busy conversation stays where it is

/// What each node may hold so that the bound keeps, per unit of weight.
struct LoadCap {
  double load = 0, recent = 0;
};
LoadCap load_cap(std::span<const NodeView> nodes, std::int64_t cost);
bool within_cap(const NodeView& node, std::int64_t cost, const LoadCap& cap);
/// Rendezvous score: each key orders the nodes in its own way, and a node that leaves moves only its own keys.
std::uint64_t rendezvous(std::uint64_t key, std::uint64_t name_hash);
/// The node with the least load for its weight; ties go to the first.
std::size_t least_loaded(std::span<const NodeView> nodes);

}  // namespace hp::gateway
