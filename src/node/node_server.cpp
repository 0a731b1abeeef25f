// The node's life: listen, load, serve, drain, stop. Order of destruction: servers, tasks, engine, loops.
#include "node/node_server.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>

#include "base/hash.h"
#include "base/log.h"
#include "base/version.h"
#include "net/http_server.h"
#include "net/resolve.h"
#include "node/admin_routes.h"
#include "node/limits.h"
#include "node/node_state.h"
#include "node/routes.h"

namespace hp {
namespace {

/// The same for every node whose answers have the same bits: what the weights became on the device, the type of the KV
/// cache and the number of ranks belong to it, the number of threads does not.
std::string fingerprint_of(const ExecutorInfo& info) {
  const std::string all = fmt::format("{}/{}/{}", info.weights, info.device.substr(0, info.device.find(',')), kVersion);
  return fmt::format("fp_{:010x}", hash128(std::as_bytes(std::span(all))).low & 0xFF'FFFF'FFFFULL);
}

class LocalNode final : public NodeServer {
 public:
  explicit LocalNode(NodeOptions options) : node_(std::move(options)) {}
  ~LocalNode() override { LocalNode::stop(); }
  LocalNode(const LocalNode&) = delete;
  LocalNode& operator=(const LocalNode&) = delete;

  Status listen();
  Status listen_admin();
  Status serve(NodeModel model);

  [[nodiscard]] std::uint16_t port() const override { return port_; }
  [[nodiscard]] std::uint16_t admin_port() const override { return admin_ ? admin_->port() : std::uint16_t{0}; }
  [[nodiscard]] const std::string& model_name() const override { return node_.names.front(); }
  [[nodiscard]] bool ready() const override { return node_.phase == NodePhase::ready; }
  [[nodiscard]] MetricsRegistry& metrics() override { return node_.metrics; }
  Status reopen_log() override { return node_.access ? node_.access->reopen() : Status(); }
  void begin_drain() override;
  Status wait() override;
  void stop() override;

 private:
  void supervise();
  void drain_to_end();
  void end_if_hung() const;
  void end(Status status);

  NodeState node_;
  std::vector<std::unique_ptr<net::HttpServer>> servers_;
  std::unique_ptr<net::HttpServer> admin_;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool draining_ = false, ended_ = false, stopped_ = false;
  Status outcome_;
  std::thread supervisor_;
};

Status LocalNode::listen() {
  const NodeOptions& o = node_.options;
  if (o.access_log) {
    HP_TRY(node_.access, AccessLog::open(o.access_file));
  }
  const bool is_unix = o.address.starts_with("unix:");
  const int count = is_unix ? 1 : std::clamp(o.http_threads, 1, kMaxHttpThreads);
  std::vector<net::EventLoop*> loops;
  for (int i = 0; i < count; ++i) {
    node_.loops.push_back(net::EventLoop::create());
    loops.push_back(node_.loops.back().get());
  }
  node_.hub = std::make_unique<StreamHub>(loops);
  node_.tasks = std::make_unique<TaskQueue>(kTaskThreads, kMaxQueuedTasks);
  net::ServerOptions s{.address = o.address,
                       .port = o.port,
                       .tls = o.tls,
                       .reuse_port = count > 1,
                       .max_connections = std::max<std::size_t>(1, o.max_connections / static_cast<std::size_t>(count)),
                       .max_body_bytes = o.max_body_bytes,
                       .max_queued_bytes = o.max_queued_bytes,
                       .header_timeout = o.header_timeout,
                       .body_timeout = o.body_timeout,
                       .idle_timeout = o.idle_timeout,
                       .write_timeout = o.write_timeout};
  if (o.tls)
    node_.metrics.gauge_callback("homeport_certificate_expiry_seconds", "End of the TLS certificate, since 1970", {},
                                 [tls = o.tls] { return static_cast<double>(tls->expires_at()); });
  for (std::size_t i = 0; i < loops.size(); ++i) {
    s.loop = loops[i];
    HP_TRY(auto server, net::HttpServer::start(
                            s,
                            [this, i](net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
                              route(node_, i, std::move(request), writer);
                            },
                            node_.metrics));
    s.port = port_ = server->port();
    servers_.push_back(std::move(server));
  }
  return o.admin_address.empty() ? Status() : listen_admin();
}

Status LocalNode::listen_admin() {
  const NodeOptions& o = node_.options;
  HP_TRY_VOID(net::check_own_address(o.admin_address));
  HP_TRY(admin_, net::HttpServer::start(
                     {.address = o.admin_address,
                      .port = o.admin_port,
                      .loop = node_.loops.front().get(),
                      .max_connections = kMaxAdminConnections,
                      .max_body_bytes = kMaxAdminBodyBytes},
                     [this](const net::HttpRequest& request, const std::shared_ptr<net::ResponseWriter>& writer) {
                       admin_route(
                           node_, [this] { begin_drain(); }, request, *writer);
                     },
                     node_.metrics));
  return {};
}

Status LocalNode::serve(NodeModel model) {
  const NodeOptions& o = node_.options;
  node_.names = o.served_names.empty() ? std::vector<std::string>{model.name} : o.served_names;
  node_.created = std::time(nullptr);
  auto executor = std::move(model.executor);
  node_.model = std::move(model);
  node_.engine = std::make_unique<Engine>(std::move(executor), *node_.hub,
                                          EngineOptions{.max_step_tokens = o.model.max_step_tokens,
                                                        .max_running = o.model.max_running,
                                                        .max_waiting = o.max_waiting,
                                                        .prefix_cache = o.prefix_cache,
                                                        .max_draft_tokens = o.draft_tokens},
                                          node_.clock);
  const ExecutorInfo& info = node_.engine->info();
  node_.context = static_cast<std::int32_t>(
      std::min<std::int64_t>(info.context, static_cast<std::int64_t>(info.blocks) * info.block_tokens));
  node_.fingerprint = fingerprint_of(info);
  node_.figures = std::make_unique<NodeMetrics>(node_.metrics, node_.names.front(), *node_.engine);
  node_.phase.store(NodePhase::ready, std::memory_order_release);
  supervisor_ = std::thread([this] { supervise(); });
  return {};
}

void LocalNode::begin_drain() {
  {
    const std::lock_guard lock(mutex_);
    if (draining_ || ended_) return;
    draining_ = true;
    NodePhase expected = NodePhase::ready;
    node_.phase.compare_exchange_strong(expected, NodePhase::draining);
  }
  changed_.notify_all();
}

/// Waits for a drain, and looks now and then whether the device is still there.
void LocalNode::supervise() {
  std::unique_lock lock(mutex_);
  while (!draining_ && !ended_) {
    changed_.wait_for(lock, kSupervisePeriod, [this] { return draining_ || ended_; });
    end_if_hung();
    if (node_.engine->stats().failed_steps == 0) continue;
    node_.phase = NodePhase::failed;
    lock.unlock();
    return end(fail(ErrorCode::unavailable, "the device is lost: restart the node"));
  }
  lock.unlock();
  if (!ended_) drain_to_end();
}

/// A thread inside a hung driver call can neither be ended nor waited for: the process goes, its supervisor starts
/// another one, and the gateway moves its streams.
void LocalNode::end_if_hung() const {
  auto limit = node_.options.step_timeout;
  if (limit.count() == 0 && node_.engine->info().device.starts_with("cuda")) limit = kGpuStepTimeout;
  const Duration at_it = node_.engine->in_step();
  if (limit.count() == 0 || at_it < limit) return;
  log::error("the device hangs: a step has taken {:.1f} s, the limit is {:.1f} s; the node ends", to_seconds(at_it),
             to_seconds(limit));
  std::_Exit(kExitDeviceHung);
}

void LocalNode::drain_to_end() {
  const NodeOptions& o = node_.options;
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, o.drain_grace, [this] { return ended_; });
  node_.refuse_new = true;
  const TimePoint last = node_.clock.now() + o.drain_time;
  while (!ended_ && node_.active > 0 && node_.clock.now() < last) {
    changed_.wait_for(lock, kDrainPoll, [this] { return ended_; });
    end_if_hung();
  }
  const std::int32_t left = node_.active;
  lock.unlock();
  if (left > 0) log::warn("drain: {} requests did not finish in {} ms and are cut", left, o.drain_time.count());
  end({});
}

void LocalNode::end(Status status) {
  {
    const std::lock_guard lock(mutex_);
    if (!ended_) outcome_ = std::move(status);
    ended_ = true;
  }
  changed_.notify_all();
}

Status LocalNode::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ended_; });
  return outcome_;
}

void LocalNode::stop() {
  end({});
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(stopped_, true)) return;
  }
  if (supervisor_.joinable()) supervisor_.join();
  node_.refuse_new = true;
  if (node_.hub) node_.hub->cut_all();
  const TimePoint last = node_.clock.now() + kCutTime;
  while (node_.active > 0 && node_.clock.now() < last) std::this_thread::sleep_for(kDrainPoll);
  admin_.reset();
  servers_.clear();
  node_.tasks.reset();
  node_.engine.reset();
  node_.loops.clear();
  node_.hub.reset();
}

}  // namespace

Result<std::unique_ptr<NodeServer>> start_node(const NodeOptions& options,
                                               const std::function<void(std::uint16_t port)>& on_listening) {
  auto node = std::make_unique<LocalNode>(options);
  HP_TRY_VOID(node->listen());
  if (on_listening) on_listening(node->port());
  HP_TRY(NodeModel model, load_model(options.model));
  HP_TRY_VOID(node->serve(std::move(model)));
  return std::unique_ptr<NodeServer>(std::move(node));
}

Result<std::unique_ptr<NodeServer>> start_node(const NodeOptions& options, NodeModel model) {
  auto node = std::make_unique<LocalNode>(options);
  HP_TRY_VOID(node->listen());
  HP_TRY_VOID(node->serve(std::move(model)));
  return std::unique_ptr<NodeServer>(std::move(node));
}

}  // namespace hp
