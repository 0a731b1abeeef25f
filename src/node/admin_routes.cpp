#include "node/admin_routes.h"

#include <array>
#include <utility>

#include "api/chunk_writer.h"
#include "base/json.h"
#include "base/log.h"

namespace hp {
namespace {

std::string stats_body(const NodeState& node) {
  std::string body;
  JsonWriter w(body);
  w.begin_object();
  w.member("active_requests", node.active.load());
  w.member("readers", static_cast<std::uint64_t>(node.hub->readers())).member("wakes", node.hub->wakes());
  w.member("queued_tasks", static_cast<std::uint64_t>(node.tasks->queued()));
  if (node.has_model()) {
    const ExecutorInfo& info = node.engine->info();
    const EngineStats s = node.engine->stats();
    w.member("model", std::string_view(node.names.front())).member("device", std::string_view(info.device));
    w.member("weights", std::string_view(info.weights)).member("fingerprint", std::string_view(node.fingerprint));
    w.member("context", node.context).member("running", s.running).member("waiting", s.waiting);
    w.member("waiting_prompt_tokens", s.waiting_tokens);
    w.member("kv_blocks", s.blocks_total).member("kv_blocks_used", s.blocks_used);
    w.member("kv_blocks_cached", s.blocks_cached);
    w.member("kv_block_bytes", static_cast<std::uint64_t>(info.block_bytes));
    w.member("steps", s.steps).member("failed_steps", s.failed_steps).member("step_tokens", s.step_tokens);
    w.member("prompt_tokens", s.prompt_tokens).member("generated_tokens", s.generated_tokens);
    w.member("preemptions", s.preemptions);
    w.member("prefix_queries", s.prefix_queries).member("prefix_hits", s.prefix_hits);
    w.member("draft_tokens", s.draft_tokens).member("draft_accepted", s.draft_accepted);
  }
  w.end_object();
  return body;
}

net::HttpResponse refusal(ErrorCode code, std::string message) {
  const Error error{.code = code, .message = std::move(message)};
  return {.status = api::http_status(code), .headers = {}, .body = api::error_body(error)};
}

net::HttpResponse set_log_level(const std::string& target) {
  constexpr std::array<std::pair<std::string_view, log::Level>, 6> kLevels{{{"trace", log::Level::trace},
                                                                            {"debug", log::Level::debug},
                                                                            {"info", log::Level::info},
                                                                            {"warn", log::Level::warn},
                                                                            {"error", log::Level::error},
                                                                            {"off", log::Level::off}}};
  for (const auto& [name, level] : kLevels)
    if (target.ends_with("?level=" + std::string(name))) {
      log::set_level(level);
      return {.status = 200, .headers = {}, .body = fmt::format(R"({{"level":"{}"}})", name)};
    }
  return refusal(ErrorCode::invalid_argument, "expected ?level= with trace, debug, info, warn, error or off");
}

}  // namespace

void admin_route(NodeState& node, const std::function<void()>& drain, const net::HttpRequest& request,
                 net::ResponseWriter& writer) {
  if (!request.header("origin").empty())  // a web page in this machine's browser
    return writer.send(
        {.status = 403, .headers = {}, .body = refusal(ErrorCode::invalid_argument, "no web page may do this").body});
  const bool reads = request.method == "GET", writes = request.method == "POST";
  if (request.path == "/admin/stats" && reads)
    return writer.send({.status = 200, .headers = {}, .body = stats_body(node)});
  if (request.path == "/admin/log" && writes) return writer.send(set_log_level(request.target));
  if (request.path == "/admin/drain" && writes) {
    drain();
    return writer.send({.status = 202, .headers = {}, .body = R"({"status":"draining"})"});
  }
  writer.send(refusal(ErrorCode::not_found, "expected GET /admin/stats, POST /admin/drain or POST /admin/log?level="));
}

}  // namespace hp
