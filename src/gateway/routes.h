// Paths to answers: the gateway's own pages, and the requests that become relays.
#pragma once

#include <memory>

#include "gateway/core.h"
#include "net/http.h"

namespace hp::gateway {

void handle_request(Shard& shard, net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer);

}  // namespace hp::gateway
