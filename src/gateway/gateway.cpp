#include "gateway/gateway.h"

#include <future>
#include <random>

#include "base/log.h"
#include "gateway/admin_routes.h"
#include "gateway/core.h"
#include "gateway/flight_follower.h"
#include "gateway/prober.h"
#include "gateway/relay.h"
#include "gateway/replay.h"
#include "gateway/routes.h"
#include "net/resolve.h"
#include "store/redis.h"

namespace hp::gateway {
namespace {

void sweep_later(Shard& shard) {
  shard.loop->after(kSweepInterval, [&shard] {
    const TimePoint now = shard.core.clock.now();
    const bool paused = shard.was_paused(now);
    shard.swept_at = now;
    if (paused) shard.core.nodes.excuse_silence(now);
    const std::vector<std::shared_ptr<Relay>> relays(shard.relays.begin(), shard.relays.end());
    if (shard.core.shared) shard.core.shared->beat(now);
    if (shard.core.quota) shard.core.quota->sync(now);
    shard.core.nodes.review();
    for (const auto& relay : relays) relay->sweep(now, paused);
    sweep_later(shard);
  });
}

std::string random_name() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

// Runs on the loop and returns when done.
void run_on(Shard& shard, const std::function<void()>& task) {
  std::promise<void> done;
  shard.loop->post([&] {
    task();
    done.set_value();
  });
  done.get_future().get();
}

}  // namespace

Gateway::Gateway(std::unique_ptr<Core> core) : core_(std::move(core)) {}

Result<std::unique_ptr<Gateway>> Gateway::start(GatewayOptions options, MetricsRegistry& metrics) {
  HP_TRY(auto policy, make_policy(options.policy));
  const net::ServerOptions server = options.server;
  std::unique_ptr<store::Redis> redis;
  if (!options.redis.empty()) {
    HP_TRY(redis, store::Redis::create(
                      {.address = options.redis, .password = options.redis_password, .timeout = options.redis_timeout},
                      metrics));
  }
  std::unique_ptr<Gateway> gateway(
      new Gateway(std::make_unique<Core>(std::move(options), std::move(policy), std::move(redis), metrics)));
  Core& core = *gateway->core_;
  if (core.options.access_log) {
    HP_TRY(core.access, AccessLog::open(core.options.access_file));
  }
  if (core.redis) {
    const std::string name = random_name();
    core.shared = std::make_unique<SharedJournal>(*core.redis, core.streams, core.clock, name,
                                                  core.options.reattach_ttl, metrics, core.options.lease);
    core.quota = std::make_unique<SharedQuota>(*core.redis, core.admission, core.clock, name, metrics);
    core.flights = std::make_unique<FlightBoard>(*core.redis, name, metrics, core.options.lease);
  }
  if (server.tls)
    metrics.gauge_callback("homeport_certificate_expiry_seconds", "End of the TLS certificate, since 1970", {},
                           [tls = server.tls] { return static_cast<double>(tls->expires_at()); });
  core.nodes.configure(core.options.nodes);
  HP_TRY_VOID(gateway->start_shards(server));
  HP_TRY_VOID(gateway->start_admin());
  return gateway;
}

Status Gateway::start_shards(net::ServerOptions server) {
  const int loops = std::max(1, server.threads);
  for (int i = 0; i < loops; ++i) {
    auto shard = std::make_unique<Shard>(Shard{*core_, net::EventLoop::create(), nullptr, nullptr});
    shard->client = net::HttpClient::create(*shard->loop);
    server.loop = shard->loop.get();
    server.reuse_port = server.reuse_port || loops > 1;
    auto listening = net::HttpServer::start(
        server,
        [shard = shard.get()](net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
          handle_request(*shard, std::move(request), std::move(writer));
        },
        core_->registry);
    if (!listening) return fail(std::move(listening).error());
    shard->server = *std::move(listening);
    server.port = shard->server->port();  // port 0: the others share what the first one got
    run_on(*shard, [&] {
      shard->swept_at = core_->clock.now();
      sweep_later(*shard);
    });
    shards_.push_back(std::move(shard));
  }
  prober_ = std::make_shared<Prober>(*shards_.front());
  run_on(*shards_.front(), [&] { prober_->start(); });
  return {};
}

Status Gateway::start_admin() {
  const GatewayOptions& options = core_->options;
  if (options.admin_address.empty()) return {};
  HP_TRY_VOID(net::check_own_address(options.admin_address));
  HP_TRY(admin_,
         net::HttpServer::start(
             {.address = options.admin_address,
              .port = options.admin_port,
              .loop = shards_.front()->loop.get(),
              .max_connections = kMaxAdminConnections,
              .max_body_bytes = kMaxAdminBodyBytes},
             [core = core_.get()](const net::HttpRequest& request, const std::shared_ptr<net::ResponseWriter>& writer) {
               admin_route(*core, request, *writer);
             },
             core_->registry));
  return {};
}

Gateway::~Gateway() {
  if (core_->redis) core_->redis->stop();  // its handlers post to the loops
  admin_.reset();
  for (const auto& shard : shards_) {
    run_on(*shard, [&] {
      if (prober_ && shard == shards_.front()) prober_->stop();
    });
    shard->server.reset();
    run_on(*shard, [&] {
      shard->replays.clear();
      shard->followers.clear();
      const auto relays = shard->relays;
      for (const auto& relay : relays) relay->stop();
    });
    shard->client.reset();
  }
  prober_.reset();
  for (const auto& shard : shards_) shard->loop.reset();
}

std::uint16_t Gateway::port() const {
  return shards_.front()->server->port();
}

std::uint16_t Gateway::admin_port() const {
  return admin_ ? admin_->port() : std::uint16_t{0};
}

std::size_t Gateway::open_requests() const {
  return static_cast<std::size_t>(core_->metrics.open.value());
}

std::vector<NodeStatus> Gateway::nodes() const {
  return core_->nodes.status();
}

std::size_t Gateway::usable_nodes() const {
  return core_->nodes.usable();
}

std::uint64_t Gateway::losses() const {
  return core_->nodes.losses();
}

GatewayLoad Gateway::load() const {
  const GatewayMetrics& m = core_->metrics;
  const std::span<const double> bounds = m.first_token.bounds();
  return {.requests = m.requests.value(),
          .waiting = m.waiting.value(),
          .first_token_bounds = {bounds.begin(), bounds.end()},
          .first_tokens = m.first_token.cumulative()};
}

void Gateway::set_nodes(const std::vector<NodeConfig>& nodes) {
  core_->nodes.configure(nodes);
}

Status Gateway::set_policy(std::string_view name) {
  HP_TRY(auto policy, make_policy(name));
  core_->nodes.set_policy(std::move(policy));
  return {};
}

void Gateway::set_tenants(const std::vector<TenantConfig>& tenants) {
  core_->admission.configure(tenants);
}

bool Gateway::hold_node(std::string_view node, bool held) {
  return core_->nodes.hold(node, held);
}

void Gateway::steer(const NodeTable::Steering& steering) {
  core_->nodes.steer(steering);
}

NodeTable::Steering Gateway::steering() const {
  return core_->nodes.steering();
}

Status Gateway::reload_certificate() {
  const auto& tls = core_->options.server.tls;
  return tls ? tls->reload() : Status();
}

Status Gateway::reopen_log() {
  return core_->access ? core_->access->reopen() : Status();
}

void Gateway::say_not_ready() {
  core_->draining = true;
}

void Gateway::begin_drain() {
  core_->draining = true;
  for (const auto& shard : shards_) shard->server->begin_drain();
}

}  // namespace hp::gateway
