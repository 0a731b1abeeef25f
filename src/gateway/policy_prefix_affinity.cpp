// Prefix affinity with bounded load: to the node that saw the longest part of this prompt, unless it holds more than
// its share; a prompt that nobody saw goes where its first bytes hash to, so that all gateways agree.
#include <algorithm>

#include "gateway/route_policy.h"

namespace hp::gateway {
namespace {

class PrefixAffinity final : public RoutePolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "prefix"; }
  [[nodiscard]] std::size_t pick(const RouteQuery& query, std::span<const NodeView> nodes) const override {
    const LoadCap cap = load_cap(nodes, query.cost_tokens);
    std::size_t best = nodes.size();
    std::uint64_t best_score = 0;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!within_cap(nodes[i], query.cost_tokens, cap)) continue;
      const std::uint64_t score = rendezvous(query.prefix_key, nodes[i].name_hash);
      const bool longer = best == nodes.size() || nodes[i].matched_bytes > nodes[best].matched_bytes;
      const bool ties = best < nodes.size() && nodes[i].matched_bytes == nodes[best].matched_bytes;
      if (longer || (ties && score > best_score)) {
        best = i;
        best_score = score;
      }
    }
    return best < nodes.size() ? best : least_loaded(nodes);
  }
};

}  // namespace

std::unique_ptr<RoutePolicy> prefix_affinity_policy() {
  return std::make_unique<PrefixAffinity>();
}

}  // namespace hp::gateway
