#include "ops/console/console_view.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/json.h"

namespace hp::ops {
namespace {

constexpr std::int64_t kSeenStepMs = 10'000;
constexpr std::string_view kRequestsSeries = "slo/requests", kGivenUpSeries = "slo/given_up";

/// Four digits are enough for people, and a value that only trembles is not sent again.
void figure(JsonWriter& json, std::string_view key, const Figure& value) {
  json.key(key);
  if (value && std::isfinite(*value))
    json.raw(fmt::format("{:.4g}", *value));
  else
    json.null();
}

void latency(JsonWriter& json, std::string_view key, const LatencyView& v) {
  json.key(key).begin_object();
  figure(json, "p50_s", v.p50_s);
  figure(json, "p90_s", v.p90_s);
  figure(json, "p99_s", v.p99_s);
  figure(json, "per_second", v.per_second);
  json.end_object();
}

void write_gpu(JsonWriter& json, const GpuView& g) {
  json.begin_object().member("index", g.index).member("name", g.name);
  figure(json, "temperature_c", g.temperature_c);
  figure(json, "memory_used_bytes", g.memory_used_bytes);
  figure(json, "memory_total_bytes", g.memory_total_bytes);
  figure(json, "power_w", g.power_w);
  figure(json, "power_limit_w", g.power_limit_w);
  figure(json, "clock_mhz", g.clock_mhz);
  figure(json, "utilization", g.utilization);
  figure(json, "ecc_errors", g.ecc_errors);
  figure(json, "xid_errors", g.xid_errors);
  json.member("throttled", g.throttled).member("throttle_reasons", g.throttle_reasons).end_object();
}

void write_node(JsonWriter& json, const NodeView& n) {
  json.begin_object().member("name", n.name).member("address", n.address).member("model", n.model);
  json.member("device", n.device).member("weights", n.weights).member("group", n.group);
  json.member("serving", n.serving).member("condition", to_string(n.condition)).member("since_ms", n.since_ms);
  json.member("seen_ms", n.seen_ms / kSeenStepMs * kSeenStepMs).member("controllable", n.controllable);
  figure(json, "running", n.running);
  figure(json, "waiting", n.waiting);
  figure(json, "kv_usage", n.kv_usage);
  figure(json, "tokens_per_s", n.tokens_per_s);
  figure(json, "prompt_tokens_per_s", n.prompt_tokens_per_s);
  figure(json, "cache_hit_ratio", n.cache_hit_ratio);
  figure(json, "failed_step_ratio", n.failed_step_ratio);
  figure(json, "max_step_tokens", n.max_step_tokens);
  figure(json, "max_running", n.max_running);
  latency(json, "first_token", n.first_token);
  latency(json, "between_tokens", n.between_tokens);
  json.key("host").begin_object();
  figure(json, "cpu_ratio", n.host.cpu_ratio);
  figure(json, "memory_used_bytes", n.host.memory_used_bytes);
  figure(json, "memory_total_bytes", n.host.memory_total_bytes);
  figure(json, "disk_free_bytes", n.host.disk_free_bytes);
  figure(json, "disk_total_bytes", n.host.disk_total_bytes);
  figure(json, "receive_bytes_s", n.host.receive_bytes_s);
  figure(json, "send_bytes_s", n.host.send_bytes_s);
  json.end_object().key("gpus").begin_array();
  for (const GpuView& gpu : n.gpus) write_gpu(json, gpu);
  json.end_array().end_object();
}

void write_cluster(JsonWriter& json, const ClusterView& view) {
  const ClusterFigures& f = view.figures;
  json.begin_object().member("at_ms", view.at_ms).member("nodes", f.nodes).member("usable_nodes", f.usable_nodes);
  json.member("serving_group", f.serving_group).member("store_ok", view.store_ok);
  json.member("store_error", view.store_error);
  figure(json, "requests_per_s", f.requests_per_s);
  figure(json, "tokens_per_s", f.tokens_per_s);
  figure(json, "prompt_tokens_per_s", f.prompt_tokens_per_s);
  figure(json, "open_requests", f.open_requests);
  figure(json, "waiting_requests", f.waiting_requests);
  figure(json, "kv_usage", f.kv_usage);
  figure(json, "cache_hit_ratio", f.cache_hit_ratio);
  figure(json, "timeout_ratio", f.timeout_ratio);
  figure(json, "refusal_ratio", f.refusal_ratio);
  figure(json, "error_ratio", f.error_ratio);
  figure(json, "resumes_per_s", f.resumes_per_s);
  latency(json, "first_token", f.first_token);
  latency(json, "gap", f.gap);
  json.end_object();
}

std::string_view phase_name(AlertPhase phase) {
  return phase == AlertPhase::firing ? "firing" : phase == AlertPhase::pending ? "pending" : "inactive";
}

void write_alert(JsonWriter& json, const AlertView& a) {
  json.begin_object().member("rule", a.rule).member("instance", a.instance).member("level", to_string(a.level));
  json.member("incident", a.incident).member("phase", phase_name(a.phase));
  figure(json, "value", a.value);
  figure(json, "threshold", a.threshold);
  json.member("since_ms", a.since_ms).member("en", a.en).member("zh", a.zh).end_object();
}

void write_incident(JsonWriter& json, const IncidentView& i) {
  json.begin_object().member("id", i.id).member("level", i.level).member("state", to_string(i.state));
  json.member("rule", i.rule).member("instance", i.instance).member("en", i.en).member("zh", i.zh);
  json.member("started_ms", i.started_ms).member("ended_ms", i.ended_ms);
  json.member("acknowledged_by", i.acknowledged_by).key("timeline").begin_array();
  for (const TimelineEntry& e : i.timeline) {
    json.begin_object().member("at_ms", e.at_ms).member("kind", e.kind).member("who", e.who);
    json.member("action", e.action).member("target", e.target).member("text", e.text).member("ok", e.ok);
    json.end_object();
  }
  json.end_array().end_object();
}

void write_action(JsonWriter& json, const ActionInfo& a) {
  const std::string_view target = a.target == ActionTarget::cluster ? "cluster"
                                  : a.target == ActionTarget::node  ? "node"
                                                                    : "group";
  json.begin_object().member("name", a.name).member("target", target).member("en", a.en).member("zh", a.zh);
  json.member("argument", a.argument).member("undo", a.undo).member("allowed", a.allowed);
  json.member("dangerous", a.dangerous).end_object();
}

void write_tenant(JsonWriter& json, const TenantView& t) {
  json.begin_object().member("name", t.name).member("requests", t.requests).member("prompt_tokens", t.prompt_tokens);
  json.member("completion_tokens", t.completion_tokens).member("refusals", t.refusals);
  json.member("timeouts", t.timeouts).member("limited", t.limited).end_object();
}

void write_model(JsonWriter& json, const ModelView& m) {
  json.begin_object().member("name", m.name).member("nodes", m.nodes).member("usable_nodes", m.usable_nodes);
  json.key("weights").begin_array();
  for (const std::string& weights : m.weights) json.value(weights);
  json.end_array().end_object();
}

void write_channel(JsonWriter& json, const ChannelView& c) {
  json.begin_object().member("name", c.name).member("kind", c.kind).member("sent", c.sent).member("failed", c.failed);
  json.member("queued", c.queued).member("last_error", c.last_error).end_object();
}

/// JSON that `write` makes of a thing.
template <typename T, typename Write>
std::string json_of(const T& thing, const Write& write) {
  std::string out;
  {
    JsonWriter json(out);
    write(json, thing);
  }
  return out;
}

template <typename T, typename Write, typename Key>
ConsoleSection section_of(std::string name, const std::vector<T>& things, const Write& write, const Key& key) {
  ConsoleSection section{.name = std::move(name)};
  for (const T& thing : things) section.items.emplace_back(key(thing), json_of(thing, write));
  return section;
}

/// From the rates of its slots: by the minute as far back as that goes, by ten minutes before.
std::vector<Growth> growth_in(const History& history, std::string_view series) {
  const std::array lanes{fmt::format("{}:mean", series)};
  std::vector<Growth> out;
  const std::int64_t minutes_from = history.query(1, lanes, kResolutions[1].slots).from_ms;
  for (const std::size_t resolution : {2, 1}) {
    const History::Table table = history.query(resolution, lanes, kResolutions[resolution].slots);
    if (table.columns.empty()) continue;
    std::int64_t from = table.from_ms;
    for (const float rate : table.columns.front().values) {
      const Growth growth{from, from + table.step_ms, rate * static_cast<double>(table.step_ms) / 1000};
      from = growth.until_ms;
      if (!std::isnan(rate) && (resolution == 1 || growth.until_ms <= minutes_from)) out.push_back(growth);
    }
  }
  return out;
}

void write_actions(JsonWriter& json, const std::vector<ActionInfo>& actions) {
  json.begin_array();
  for (const ActionInfo& action : actions) write_action(json, action);
  json.end_array();
}

}  // namespace

std::vector<ConsoleSection> overview_sections(const ClusterView& view) {
  std::vector<ConsoleSection> out;
  out.push_back({.name = "cluster", .json = json_of(view, write_cluster)});
  out.push_back(section_of("nodes", view.nodes, write_node, [](const NodeView& n) { return n.name; }));
  out.push_back(section_of("alerts", view.alerts, write_alert,
                           [](const AlertView& a) { return fmt::format("{}|{}", a.rule, a.instance); }));
  out.push_back(section_of("incidents", view.incidents, write_incident,
                           [](const IncidentView& i) { return std::to_string(i.id); }));
  out.push_back({.name = "actions", .json = json_of(view.actions, write_actions)});
  // An empty name would be a section's whole value.
  out.push_back(section_of("tenants", view.tenants, write_tenant,
                           [](const TenantView& t) { return t.name.empty() ? "-" : t.name; }));
  out.push_back(section_of("models", view.models, write_model, [](const ModelView& m) { return m.name; }));
  out.push_back(section_of("channels", view.channels, write_channel, [](const ChannelView& c) { return c.name; }));
  return out;
}

std::string view_json(const ClusterView& view) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  for (const ConsoleSection& section : overview_sections(view)) {
    json.key(section.name);
    if (!section.json.empty()) {
      json.raw(section.json);
      continue;
    }
    json.begin_array();
    for (const auto& [id, item] : section.items) json.raw(item);
    json.end_array();
  }
  json.end_object();
  return out;
}

std::string incidents_json(std::span<const IncidentView> incidents) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("incidents").begin_array();
  for (const IncidentView& incident : incidents) write_incident(json, incident);
  json.end_array().end_object();
  return out;
}

std::string audit_json(std::span<const AuditEntry> entries) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("audit").begin_array();
  for (const AuditEntry& e : entries) {
    json.begin_object().member("at_ms", e.at_ms).member("incident_id", e.incident_id).member("who", e.who);
    json.member("action", e.action).member("target", e.target).member("argument", e.argument).member("text", e.text);
    json.member("ok", e.ok).member("dry_run", e.dry_run).end_object();
  }
  json.end_array().end_object();
  return out;
}

void record_view(History& history, const ClusterView& view) {
  const auto keep = [&](std::string_view name, const Figure& value) {
    if (value) history.gauge(name, *value);
  };
  const ClusterFigures& f = view.figures;
  history.gauge("usable_nodes", f.usable_nodes);
  keep("requests", f.requests_per_s);
  keep("tokens", f.tokens_per_s);
  keep("prompt_tokens", f.prompt_tokens_per_s);
  keep("open", f.open_requests);
  keep("waiting", f.waiting_requests);
  keep("kv", f.kv_usage);
  keep("cache_hit", f.cache_hit_ratio);
  keep("errors", f.error_ratio);
  keep("timeouts", f.timeout_ratio);
  keep("refusals", f.refusal_ratio);
  if (f.requests) history.counter(kRequestsSeries, *f.requests);
  if (f.given_up) history.counter(kGivenUpSeries, *f.given_up);
  for (const NodeView& n : view.nodes) {
    const auto of_node = [&](std::string_view metric, const Figure& value) {
      if (value) history.gauge(fmt::format("node/{}/{}", n.name, metric), *value);
    };
    of_node("running", n.running);
    of_node("waiting", n.waiting);
    of_node("tokens", n.tokens_per_s);
    of_node("kv", n.kv_usage);
    of_node("cache_hit", n.cache_hit_ratio);
    of_node("cpu", n.host.cpu_ratio);
    of_node("ttft_p50", n.first_token.p50_s);
    of_node("ttft_p99", n.first_token.p99_s);
    if (n.gpus.empty()) continue;
    Figure hottest, load;
    for (const GpuView& gpu : n.gpus) {
      if (gpu.temperature_c) hottest = std::max(hottest.value_or(-273.15), *gpu.temperature_c);
      if (gpu.utilization) load = load.value_or(0) + *gpu.utilization / static_cast<double>(n.gpus.size());
    }
    of_node("gpu_temperature", hottest);
    of_node("gpu", load);
  }
}

PastCounts past_counts(const History& history) {
  return {.requests = growth_in(history, kRequestsSeries), .given_up = growth_in(history, kGivenUpSeries)};
}

void record_latencies(History& history, std::string_view page) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kHistograms{
      {{"ttft", "homeport_gateway_time_to_first_token_seconds_bucket{le=\""},
       {"gap", "homeport_gateway_event_gap_seconds_bucket{le=\""}}};
  for (const auto& [series, prefix] : kHistograms) {
    std::vector<double> bounds, cumulative;
    for (auto at = page.find(prefix); at != std::string_view::npos; at = page.find(prefix, at)) {
      at += prefix.size();
      const std::string line(page.substr(at, page.find('\n', at) - at));  // 0.5"} 12
      const auto quote = line.find("\"} ");
      if (quote == std::string::npos) return;
      if (!line.starts_with("+Inf")) bounds.push_back(std::strtod(line.c_str(), nullptr));
      cumulative.push_back(std::strtod(line.c_str() + quote + 3, nullptr));
    }
    history.histogram(series, bounds, cumulative);
  }
}

}  // namespace hp::ops
