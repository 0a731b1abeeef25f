#include "node/routes.h"

#include <utility>

#include "api/chunk_writer.h"
#include "base/json.h"

namespace hp {
namespace {

std::string_view phase_name(const NodeState& node) {
  switch (node.phase.load(std::memory_order_acquire)) {
    case NodePhase::loading:
      return "loading";
    case NodePhase::ready:
      return "ok";
    case NodePhase::draining:
      return "draining";
    case NodePhase::failed:
      break;
  }
  return "failed";
}

/// Liveness with the heartbeat that watchdogs read: step_tokens grows while anything is computed, prefill included.
std::string health_body(const NodeState& node) {
  std::string body;
  JsonWriter w(body);
  w.begin_object().member("status", phase_name(node));
  if (node.has_model()) {
    const EngineStats s = node.engine->stats();
    w.member("running", s.running).member("waiting", s.waiting).member("steps", s.steps);
    w.member("step_tokens", s.step_tokens).member("generated_tokens", s.generated_tokens);
  }
  w.end_object();
  return body;
}

net::HttpResponse error_answer(const Error& error) {
  net::HttpResponse response{.status = api::http_status(error.code), .headers = {}, .body = api::error_body(error)};
  return response;
}

net::HttpResponse get_answer(const NodeState& node, const std::string& path) {
  if (path == "/health" || path == "/live")
    return {.status = node.phase == NodePhase::failed ? 503 : 200, .headers = {}, .body = health_body(node)};
  if (path == "/ready")
    return {.status = node.phase == NodePhase::ready ? 200 : 503, .headers = {}, .body = health_body(node)};
  if (path == "/metrics")
    return {.status = 200, .headers = {}, .body = node.metrics.render(), .content_type = "text/plain; version=0.0.4"};
  if (path == "/v1/models") {
    if (!node.has_model())
      return error_answer({.code = ErrorCode::unavailable, .message = "the model is still loading; try again soon"});
    return {.status = 200, .headers = {}, .body = api::models_list(node.names, node.created)};
  }
  return error_answer({.code = ErrorCode::not_found,
                       .message = "no such path here; /v1/models, /v1/chat/completions, /v1/completions, /health, "
                                  "/ready and /metrics are"});
}

}  // namespace

void route(NodeState& node, std::size_t shard, net::HttpRequest request,
           const std::shared_ptr<net::ResponseWriter>& writer) {
  (void)shard;
  writer->send(get_answer(node, request.path));
}

}  // namespace hp
