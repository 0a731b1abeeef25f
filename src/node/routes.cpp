#include "node/routes.h"

#include <utility>

#include "api/chunk_writer.h"
#include "base/json.h"
#include "node/api_keys.h"
#include "node/session.h"

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

net::HttpResponse get_answer(NodeState& node, const std::string& path) {
  if (path == "/health" || path == "/live")
    return {.status = node.phase == NodePhase::failed ? 503 : 200, .headers = {}, .body = health_body(node)};
  if (path == "/ready")
    return {.status = node.phase == NodePhase::ready ? 200 : 503, .headers = {}, .body = health_body(node)};
  if (path == "/metrics") {
    if (node.has_model()) node.figures->refresh();
    return {.status = 200, .headers = {}, .body = node.metrics.render(), .content_type = "text/plain; version=0.0.4"};
  }
  if (path == "/v1/models") {
    if (!node.has_model())
      return error_answer({.code = ErrorCode::unavailable, .message = "the model is still loading; try again soon"});
    return {.status = 200,
            .headers = {{"Homeport-Identity", node.fingerprint}},
            .body = api::models_list(node.names, node.created)};
  }
  return error_answer({.code = ErrorCode::not_found,
                       .message = "no such path here; /v1/models, /v1/chat/completions, /v1/completions, /health, "
                                  "/ready and /metrics are"});
}

net::HttpResponse wrong_method(std::string_view right) {
  net::HttpResponse out = error_answer(
      {.code = ErrorCode::invalid_argument, .message = fmt::format("this path takes {} requests only", right)});
  out.status = 405;
  out.headers.emplace_back("Allow", right);
  return out;
}

}  // namespace

void route(NodeState& node, std::size_t shard, net::HttpRequest request,
           const std::shared_ptr<net::ResponseWriter>& writer) {
  const bool guarded = request.path.starts_with("/v1/");
  if (guarded && !may_enter(node.options.api_keys, request.header("authorization")))
    return writer->send({.status = 401,
                         .headers = {{"WWW-Authenticate", "Bearer"}},
                         .body = api::error_body({.code = ErrorCode::invalid_argument,
                                                  .message = "expected the header 'Authorization: Bearer <key>' with a "
                                                             "key of this server"})});
  const bool chat = request.path == "/v1/chat/completions";
  if (!chat && request.path != "/v1/completions") {
    if (request.method == "GET" || request.method == "HEAD") return writer->send(get_answer(node, request.path));
    return writer->send(wrong_method("GET"));
  }
  const std::string_view last_event = request.header("last-event-id");
  if (!last_event.empty() && node.replays.enabled()) {
    if (!node.replays.attach(last_event, writer))
      writer->send(error_answer({.code = ErrorCode::not_found,
                                 .message = "this stream is not here any more, or its event is too far back; ask again "
                                            "without Last-Event-ID",
                                 .where = "Last-Event-ID"}));
    return;
  }
  if (request.method != "POST") return writer->send(wrong_method("POST"));
  Session::start(node, shard, chat ? AnswerKind::chat : AnswerKind::text, std::move(request), writer);
}

}  // namespace hp
