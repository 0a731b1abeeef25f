// The node's paths: which request goes where, who may ask, and the small answers (/health, /ready, /metrics,
// /v1/models).
#pragma once

#include <cstddef>
#include <memory>

#include "net/http.h"
#include "node/node_state.h"

namespace hp {

/// Handles one request on loop `shard`.
void route(NodeState& node, std::size_t shard, net::HttpRequest request,
           const std::shared_ptr<net::ResponseWriter>& writer);

}  // namespace hp
