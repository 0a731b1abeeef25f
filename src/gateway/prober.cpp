#include "gateway/prober.h"

#include "base/json.h"
#include "base/log.h"

namespace hp::gateway {
namespace {

constexpr int kFailuresToDoubt = 2;
constexpr milliseconds kUnreadyInterval{100};  // somebody may be waiting for it
constexpr milliseconds kSlack{5};              // timers come a little early or late
constexpr std::size_t kMaxProbeBytes = 1 << 20;

struct Answer {
  int status = 0;
  std::string body, identity;
};

net::ClientRequest request_for(const NodeConfig& node, std::string target, const GatewayOptions& options) {
  net::ClientRequest request{.host = node.host,
                             .port = node.port,
                             .tls = node.tls,
                             .authority = options.authority,
                             .target = std::move(target)};
  request.connect_timeout = request.read_timeout = options.probe_timeout;
  request.max_body_bytes = kMaxProbeBytes;
  if (!node.api_key.empty()) request.headers.emplace_back("Authorization", "Bearer " + node.api_key);
  return request;
}

std::vector<std::string> model_names(const std::string& body) {
  std::vector<std::string> names;
  const auto json = JsonValue::parse(body);
  const JsonValue* data = json ? json->find("data") : nullptr;
  if (data == nullptr || data->as_array() == nullptr) return names;
  for (const JsonValue& model : *data->as_array())
    if (const JsonValue* id = model.find("id"); id != nullptr && id->as_string() != nullptr)
      names.push_back(*id->as_string());
  return names;
}

}  // namespace

void Prober::start() {
  round();
}

void Prober::round() {
  if (stopped_) return;
  const auto nodes = shard_.core.nodes.status();
  const TimePoint now = shard_.core.clock.now();
  const milliseconds pause = std::min(shard_.core.options.probe_interval, kUnreadyInterval);
  for (NodeIndex i = 0; i < nodes.size(); ++i) {
    Probe& probe = probes_[i];
    if (probe.in_flight && nodes[i].ready && !nodes[i].silent) listen(i, probe, now);
    const Duration due = nodes[i].ready ? shard_.core.options.probe_interval : pause;
    if (nodes[i].removed || probe.in_flight || now - probe.asked_at < due - kSlack) continue;
    probe.asked_at = now;
    if (probe.failures == 0) probe.waiting_since = now;
    ask(i, nodes[i].config);
  }
  shard_.loop->after(pause, [self = shared_from_this()] { self->round(); });
}

// The time-out of a probe is for nodes that answer late; one that says nothing at all is found sooner.
void Prober::listen(NodeIndex node, const Probe& probe, TimePoint now) {
  NodeTable& nodes = shard_.core.nodes;
  const Duration bound = std::max<Duration>(nodes.silence_bound(node), kSilenceIdle);
  const Duration silence = nodes.silence(node, now);
  if (!shard_.was_paused(now) && silence > bound && now - probe.waiting_since > bound) nodes.trip_silent(node, silence);
}

void Prober::ask(NodeIndex node, const NodeConfig& config) {
  probes_[node].in_flight = true;
  const auto answer = std::make_shared<Answer>();
  const bool homeport = config.homeport;
  shard_.client->start(request_for(config, homeport ? "/ready" : "/v1/models", shard_.core.options),
                       {.on_headers = [answer](int status, const net::Headers&) { answer->status = status; },
                        .on_data = [answer](std::string_view bytes) { answer->body += bytes; },
                        .on_done =
                            [self = shared_from_this(), node, homeport, answer](Status outcome) {
                              if (!self->stopped_)
                                self->on_answer(node, homeport, answer->status, answer->body, outcome);
                            }});
}

void Prober::on_answer(NodeIndex node, bool homeport, int status, const std::string& body, const Status& outcome) {
  Probe& probe = probes_[node];
  NodeTable& nodes = shard_.core.nodes;
  probe.in_flight = false;
  if (!outcome) {
    // A refused connection is certain, a late answer may be a busy moment.
    const bool certain = outcome.error().code != ErrorCode::deadline_exceeded;
    if (certain || ++probe.failures >= kFailuresToDoubt) {
      nodes.set_ready(node, false, false);
      probe.models_known = false;
    }
    return;
  }
  probe.failures = 0;
  shard_.heard(node, shard_.core.clock.now());
  const bool ready = status == 200;
  const bool draining = status == 503 && body.find("draining") != std::string::npos;
  if (!homeport) return nodes.set_ready(node, ready, false, ready ? model_names(body) : std::vector<std::string>());
  if (ready && !probe.models_known) return ask_models(node, nodes.config(node));
  nodes.set_ready(node, ready, draining);
  if (!ready) probe.models_known = false;
}

// A node counts as ready only when its models are known, so that no request goes to one that lacks the model.
void Prober::ask_models(NodeIndex node, const NodeConfig& config) {
  probes_[node].in_flight = true;
  const auto answer = std::make_shared<Answer>();
  shard_.client->start(request_for(config, "/v1/models", shard_.core.options),
                       {.on_headers =
                            [answer](int status, const net::Headers& headers) {
                              answer->status = status;
                              for (const auto& [name, value] : headers)
                                if (name == "homeport-identity") answer->identity = value;
                            },
                        .on_data = [answer](std::string_view bytes) { answer->body += bytes; },
                        .on_done =
                            [self = shared_from_this(), node, answer](const Status& outcome) {
                              if (self->stopped_) return;
                              Probe& probe = self->probes_[node];
                              probe.in_flight = false;
                              if (!outcome || answer->status != 200) return;
                              probe.models_known = true;
                              self->shard_.core.nodes.set_identity(node, answer->identity);
                              self->shard_.core.nodes.set_ready(node, true, false, model_names(answer->body));
                            }});
}

}  // namespace hp::gateway
