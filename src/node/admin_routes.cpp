#include "node/admin_routes.h"

#include <algorithm>
#include <array>
#include <charconv>
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

/// A whole number of the query, 0 when it is not there, -1 when it is none.
std::int32_t query_number(std::string_view target, std::string_view name) {
  const auto question = target.find('?');
  std::string_view query = question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
  while (!query.empty()) {
    const std::string_view part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), part.size() + 1));
    if (!part.starts_with(name) || part.size() <= name.size() || part[name.size()] != '=') continue;
    const std::string_view digits = part.substr(name.size() + 1);
    std::int32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() && value > 0 ? value : -1;
  }
  return 0;
}

net::HttpResponse limits_answer(NodeState& node, const std::string& target, bool writes) {
  if (!node.has_model()) return refusal(ErrorCode::unavailable, "the model is not loaded yet");
  const Engine::Limits wanted{.max_step_tokens = query_number(target, "max_step_tokens"),
                              .max_running = query_number(target, "max_running")};
  if (wanted.max_step_tokens < 0 || wanted.max_running < 0 ||
      (writes && wanted.max_step_tokens == 0 && wanted.max_running == 0))
    return refusal(ErrorCode::invalid_argument,
                   "expected ?max_step_tokens=N&max_running=N with whole numbers from 1 on, or one of them");
  if (writes) node.engine->set_limits(wanted);
  const Engine::Limits now = node.engine->limits(), most = node.engine->built_for();
  std::string body;
  JsonWriter(body)
      .begin_object()
      .member("max_step_tokens", now.max_step_tokens)
      .member("max_running", now.max_running)
      .member("most_step_tokens", most.max_step_tokens)
      .member("most_running", most.max_running)
      .end_object();
  return {.status = 200, .headers = {}, .body = std::move(body)};
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
  if (request.path == "/admin/limits" && (reads || writes))
    return writer.send(limits_answer(node, request.target, writes));
  writer.send(
      refusal(ErrorCode::not_found,
              "expected GET /admin/stats, GET or POST /admin/limits, POST /admin/drain or POST /admin/log?level="));
}

}  // namespace hp
