// Consistent (rendezvous) hashing by session with bounded load; a request without a session uses its prompt's key.
#include "gateway/route_policy.h"

namespace hp::gateway {
namespace {

class SessionHash final : public RoutePolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "session"; }
  [[nodiscard]] std::size_t pick(const RouteQuery& query, std::span<const NodeView> nodes) const override {
    const std::uint64_t key = query.session_key != 0 ? query.session_key : query.prefix_key;
    const LoadCap cap = load_cap(nodes, query.cost_tokens);
    std::size_t best = nodes.size();
    std::uint64_t best_score = 0;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const std::uint64_t score = rendezvous(key, nodes[i].name_hash);
      if (!within_cap(nodes[i], query.cost_tokens, cap) || (best < nodes.size() && score <= best_score)) continue;
      best = i;
      best_score = score;
    }
    return best < nodes.size() ? best : least_loaded(nodes);
  }
};

}  // namespace

std::unique_ptr<RoutePolicy> session_hash_policy() {
  return std::make_unique<SessionHash>();
}

}  // namespace hp::gateway
