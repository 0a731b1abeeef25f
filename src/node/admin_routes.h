// What an operator on this machine may ask of a node: its state in figures, a drain, the log level. On an address of
// its own that only this machine reaches; there are no keys.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/http.h"
#include "node/node_state.h"

namespace hp {

/// GET /admin/stats, GET and POST /admin/limits?max_step_tokens=128&max_running=8, POST /admin/drain,
/// POST /admin/log?level=debug.
void admin_route(NodeState& node, const std::function<void()>& drain, const net::HttpRequest& request,
                 net::ResponseWriter& writer);

}  // namespace hp
