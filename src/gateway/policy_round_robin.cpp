// Round robin: each in turn, whatever it holds. What everybody has; here to compare against.
#include "gateway/route_policy.h"

namespace hp::gateway {
namespace {

class RoundRobin final : public RoutePolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "round-robin"; }
  [[nodiscard]] std::size_t pick(const RouteQuery& query, std::span<const NodeView> nodes) const override {
    return query.sequence % nodes.size();
  }
};

}  // namespace

std::unique_ptr<RoutePolicy> round_robin_policy() {
  return std::make_unique<RoundRobin>();
}

}  // namespace hp::gateway
