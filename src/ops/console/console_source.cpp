// The console over a watch: what it asks, and what a person's orders become.
#include "base/json.h"
#include "ops/console/console_view.h"

namespace hp::ops {
namespace {

std::string text_of(const JsonValue& body, std::string_view key) {
  const JsonValue* value = body.find(key);
  return value != nullptr && value->as_string() != nullptr ? *value->as_string() : std::string();
}

std::string ok_json() {
  return R"({"ok":true})";
}

Result<std::string> run_action(Watch& watch, const ConsoleOrder& order) {
  const JsonValue* dry = order.body.find("dry_run");
  const ActionRequest request{.action = text_of(order.body, "action"),
                              .target = text_of(order.body, "target"),
                              .argument = text_of(order.body, "argument"),
                              .who = order.who,
                              // What is not clearly wanted is only rehearsed.
                              .dry_run = dry == nullptr || dry->as_bool().value_or(true)};
  if (request.action.empty()) return fail(ErrorCode::invalid_argument, "expected an action");
  const ActionOutcome outcome = watch.perform(request);
  std::string out;
  JsonWriter(out).begin_object().member("ok", outcome.ok).member("text", outcome.text).end_object();
  return out;
}

Result<std::string> tell_incident(Watch& watch, const ConsoleOrder& order) {
  const JsonValue* id = order.body.find("id");
  const std::optional<std::int64_t> number = id != nullptr ? id->as_int() : std::nullopt;
  if (!number) return fail(ErrorCode::invalid_argument, "expected the incident's id");
  const std::string text = text_of(order.body, "text").substr(0, 2000);
  if (order.what == "note" && text.empty()) return fail(ErrorCode::invalid_argument, "expected a text");
  const bool done =
      order.what == "note" ? watch.add_note(*number, order.who, text) : watch.acknowledge(*number, order.who);
  if (!done) return fail(ErrorCode::not_found, "there is no such open incident");
  return ok_json();
}

Result<std::string> test_channel(Watch& watch, const ConsoleOrder& order) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("results").begin_array();
  for (const auto& [channel, status] : watch.test_notice(text_of(order.body, "channel")))
    json.begin_object()
        .member("channel", channel)
        .member("ok", status.has_value())
        .member("error", status ? std::string() : status.error().message)
        .end_object();
  json.end_array().end_object();
  return out;
}

}  // namespace

ConsoleSource watch_source(Watch& watch, std::function<std::string()> metrics_page) {
  ConsoleSource source;
  source.overview = [&watch] { return overview_sections(*watch.view()); };
  source.record = [&watch, page = std::move(metrics_page), round = std::int64_t{-1}](History& history) mutable {
    if (round < 0) watch.recall(past_counts(history));  // the file has just been read
    if (page) record_latencies(history, page());
    const auto view = watch.view();
    if (std::exchange(round, view->round) != view->round) record_view(history, *view);
  };
  source.list = [&watch](std::string_view what, std::int64_t before_ms, std::size_t limit) -> Result<std::string> {
    if (what == "incidents") {
      IncidentQuery query{.limit = limit};
      if (before_ms > 0) query.before_ms = before_ms;
      return incidents_json(watch.incidents(query));
    }
    if (what == "audit") return audit_json(watch.audit(0, limit));
    if (what == "view") return view_json(*watch.view());
    return fail(ErrorCode::not_found, "there is no list '{}'", what);
  };
  source.order = [&watch](const ConsoleOrder& order) -> Result<std::string> {
    if (order.what == "actions") return run_action(watch, order);
    if (order.what == "acknowledge" || order.what == "note") return tell_incident(watch, order);
    if (order.what == "notices") return test_channel(watch, order);
    return fail(ErrorCode::not_found, "there is no order '{}'", order.what);
  };
  return source;
}

}  // namespace hp::ops
