// Which earlier answer may stand for a new request: one of the same deterministic request (response cache), or of the
// same Idempotency-Key. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "gateway/request_peek.h"

namespace hp::gateway {

struct ReuseKey {
  std::string key;        ///< SHA-256; no prompt and no client's key can be read from it
  std::string body_hash;  ///< of the canonical request: an Idempotency-Key must come with the same one again
  bool idempotent = false;
};

/// The request with members sorted at every depth but in tools and schemas, and without white space; members that
/// cannot change the answer
/// ("user", "session_id") left out. Numbers of equal value are written alike.
Result<std::string> canonical_request(std::string_view body);

struct ReuseQuery {
  std::string_view tenant, target, body;
  std::string_view identity;  ///< of weights and build behind the model; empty: unknown or not the same everywhere
  bool deterministic = false;
  bool cache = false;                     ///< the response cache is on and the client did not say no-cache
  std::string_view idempotency_key = {};  ///< empty: none
};
/// Nothing: the request must be answered anew.
Result<std::optional<ReuseKey>> reuse_key(const ReuseQuery& query);

}  // namespace hp::gateway
