// What an operator on this machine may ask of a gateway: its nodes, taking one out and back in, a reload, a drain, the
// log level. On an address of its own that only this machine reaches; there are no keys, and no web page gets in.
#pragma once

#include "gateway/core.h"
#include "net/http.h"

namespace hp::gateway {

/// GET /admin/nodes, POST /admin/nodes/NAME/drain, POST /admin/nodes/NAME/undrain, POST /admin/reload, POST
/// /admin/drain, POST /admin/log?level=debug.
void admin_route(Core& core, const net::HttpRequest& request, net::ResponseWriter& writer);

}  // namespace hp::gateway
