// Least outstanding tokens by power of two choices: the better of two random nodes; no herd onto the emptiest one.
#include "gateway/route_policy.h"

namespace hp::gateway {
namespace {

class LeastTokens final : public RoutePolicy {
 public:
  [[nodiscard]] std::string_view name() const override { return "least-tokens"; }
  [[nodiscard]] std::size_t pick(const RouteQuery& query, std::span<const NodeView> nodes) const override {
    if (nodes.size() == 1) return 0;
    const std::size_t a = (query.random & 0xffffffffU) % nodes.size();
    const std::size_t step = (query.random >> 32) % (nodes.size() - 1);
    const std::size_t b = (a + 1 + step) % nodes.size();
    const auto load = [&](std::size_t i) { return static_cast<double>(nodes[i].load_tokens) / nodes[i].weight; };
    return load(b) < load(a) ? b : a;
  }
};

}  // namespace

std::unique_ptr<RoutePolicy> least_tokens_policy() {
  return std::make_unique<LeastTokens>();
}

}  // namespace hp::gateway
