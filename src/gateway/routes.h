// Paths to answers: the gateway's own pages, and the requests that become relays.
#pragma once

#include <memory>

#include "gateway/core.h"
#include "net/http.h"

namespace hp::gateway {

/// Gives a new stream the token with which a browser may read it, where keys are wanted.
void give_token(Core& core, StoredStream& stream);

/// Answers, and leaves the line that what has no relay leaves in the access log.
void refuse(Core& core, const net::HttpRequest& request, const std::shared_ptr<net::ResponseWriter>& writer,
            net::HttpResponse answer, std::string_view tenant = {});
/// Starts the relay of a client that has a part of the stream already.
void continue_relay(Shard& shard, const net::HttpRequest& request, std::shared_ptr<StoredStream> stream,
                    std::shared_ptr<net::ResponseWriter> writer);

void handle_request(Shard& shard, net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer);

}  // namespace hp::gateway
