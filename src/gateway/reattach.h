// Clients that were cut off and come back with Last-Event-ID: their stream is found here, in the shared journal, or
// generated again. Both are called with the client admitted; on refusal its place is given back.
#pragma once

#include <memory>
#include <string>

#include "gateway/core.h"
#include "gateway/stream_record.h"
#include "net/http.h"

namespace hp::gateway {

/// With the original request: always works.
void reattach_post(Shard& shard, net::HttpRequest request, EventPosition position, RequestPeek peek,
                   std::shared_ptr<net::ResponseWriter> writer, std::string tenant);
/// GET /v1/streams/<id>, for clients that cannot send the body again, such as a browser's EventSource.
void reattach_get(Shard& shard, net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer,
                  std::string tenant);

}  // namespace hp::gateway
