// What the program that contains a gateway may add to it: answers to paths that are not the API's, and a look at
// streams.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/http.h"

namespace hp::gateway {

/// Answers a request as if a client had sent it, one that no tenant's key or limit binds.
using InsideRequest = std::function<void(net::HttpRequest, std::shared_ptr<net::ResponseWriter>)>;
/// True: it took the request. Runs on a loop of the gateway, for every path outside /v1/.
using SideDoor = std::function<bool(net::HttpRequest&, std::shared_ptr<net::ResponseWriter>&, const InsideRequest&)>;

/// A run of a stream's tokens that one node made.
struct StreamLeg {
  std::string node;
  std::uint64_t from_token = 0, tokens = 0;
  std::int64_t at_ms = 0;  ///< since 1970: its first token came
};

/// A stream as the gateway knows it; nothing of what was said.
struct StreamState {
  std::string id, tenant, model;
  std::uint64_t prompt_tokens = 0, tokens = 0;
  bool complete = false;
  std::vector<StreamLeg> legs;
};

}  // namespace hp::gateway
