#include "ops/watch.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <ctime>
#include <filesystem>
#include <future>
#include <limits>
#include <mutex>
#include <set>

#include "base/clock.h"
#include "base/log.h"
#include "net/event_loop.h"
#include "net/http_client.h"
#include "ops/alert_board.h"
#include "ops/collect/cluster_track.h"
#include "ops/incident/action_desk.h"
#include "ops/incident/incident_desk.h"
#include "ops/limits.h"
#include "ops/notice/sender.h"
#include "ops/watch_options.h"

namespace hp::ops {
namespace {

constexpr std::chrono::milliseconds kReadTimeout{1'500}, kConnectTimeout{1'000};
constexpr std::chrono::seconds kTestPatience{15};
constexpr std::chrono::milliseconds kListenInterval{100};  // for the loss of a node
constexpr std::int64_t kOwnPauseMs = 2'000;  // this process stood still: what looks like a late node is our own delay
constexpr std::array kRoundBuckets{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1.};

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::int64_t steady_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// Two processes must not keep one file: each would end the other's incidents. Held until the process ends or the
/// descriptor is closed; -1: somebody else has it, or there is no such folder.
int lock_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file >= 0 && ::flock(file, LOCK_EX | LOCK_NB) == 0) return file;
  if (file >= 0) ::close(file);
  return -1;
}

/// The database's file, or nothing when it cannot be ours.
std::string owned_file(const std::string& database, int& lock) {
  if (database.empty()) return database;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(database).parent_path(), error);
  lock = lock_file(database + ".lock");
  if (lock >= 0) return database;
  log::warn(
      "ops: {} cannot be locked (another homeport, or no room); incidents are kept in memory: --ops-folder names "
      "another folder",
      database);
  return {};
}

int minute_of_day() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  return local.tm_hour * 60 + local.tm_min;
}

class LocalWatch final : public Watch {
 public:
  LocalWatch(const WatchOptions& options, WatchWiring wiring, MetricsRegistry& metrics);
  ~LocalWatch() override;
  LocalWatch(const LocalWatch&) = delete;
  LocalWatch& operator=(const LocalWatch&) = delete;
  void begin();

  [[nodiscard]] std::shared_ptr<const ClusterView> view() const override;
  void perform(ActionRequest request, std::function<void(ActionOutcome)> done) override;
  using Watch::perform;
  [[nodiscard]] std::vector<IncidentView> incidents(const IncidentQuery& query) const override {
    return store_.incidents(query);
  }
  [[nodiscard]] std::vector<AuditEntry> audit(std::int64_t since_ms, std::size_t limit) const override {
    return store_.audits(since_ms, limit);
  }
  bool acknowledge(std::int64_t id, std::string_view who) override;
  bool add_note(std::int64_t id, std::string_view who, std::string_view text) override;
  std::vector<std::pair<std::string, Status>> test_notice(std::string_view channel) override;
  void recall(PastCounts past) override {
    run_on_loop([this, &past] { track_.recall(now(), std::move(past)); });
  }

 private:
  [[nodiscard]] static Moment now() { return {.at_ms = steady_ms(), .wall_ms = wall_ms()}; }
  void run_on_loop(const std::function<void()>& task) const;
  void round(), listen();
  void read_node(const KnownNode& node);
  void start_reading(const std::string& key, net::ClientRequest request, std::function<void(Result<std::string>)> done);
  void publish(const Moment& moment);
  void show_nodes(const std::vector<NodeView>& nodes);

  const WatchOptions options_;
  const WatchWiring wiring_;
  MetricsRegistry& metrics_;
  SteadyClock clock_;
  std::unique_ptr<net::EventLoop> loop_ = net::EventLoop::create();
  std::unique_ptr<net::HttpClient> client_ = net::HttpClient::create(*loop_);
  int lock_ = -1;
  IncidentStore store_;
  std::unique_ptr<Sender> sender_;
  std::unique_ptr<Notifier> notifier_;
  std::unique_ptr<ActionDesk> actions_;
  std::unique_ptr<IncidentDesk> desk_;
  // Loop only.
  ClusterTrack track_;
  AlertBoard board_;
  std::set<std::string> reading_, nodes_shown_;
  std::int64_t round_ = 0, last_round_ms_ = 0;
  std::uint64_t losses_ = 0;
  net::EventLoop::Timer next_round_ = 0;
  bool stopped_ = false;
  Histogram& round_seconds_;

  mutable std::mutex view_mutex_;
  std::shared_ptr<const ClusterView> view_ = std::make_shared<ClusterView>();
};

LocalWatch::LocalWatch(const WatchOptions& options, WatchWiring wiring, MetricsRegistry& metrics)
    : options_(options),
      wiring_(std::move(wiring)),
      metrics_(metrics),
      store_(owned_file(options.database, lock_)),
      track_(options.rules),
      board_(options.rules),
      round_seconds_(metrics.histogram("homeport_ops_round_seconds", "One evaluation of all rules", kRoundBuckets)) {
  sender_ = std::make_unique<Sender>(*loop_, *client_, options_.notices.link);
  notifier_ = std::make_unique<Notifier>(
      options_.notices,
      [this](const Channel& channel, const std::vector<Notice>& notices, Notifier::Done done) {
        sender_->send(channel, notices, std::move(done));
      },
      metrics_);
  actions_ = std::make_unique<ActionDesk>(
      wiring_.actions,
      ActionPolicy{.forbidden = options_.forbidden, .dry_run = options_.dry_run, .limits = options_.playbooks.limits},
      store_, clock_, metrics_);
  desk_ = std::make_unique<IncidentDesk>(
      IncidentDesk::Parts{.playbooks = options_.playbooks,
                          .automatic = options_.automatic,
                          .actions = actions_.get(),
                          .store = &store_,
                          .notifier = notifier_.get(),
                          .post = [this](std::function<void()> task) { loop_->post(std::move(task)); },
                          .clock = now});
  metrics_.gauge_callback("homeport_ops_store_ok", "1: incidents reach the disk; 0: they are kept in memory", {},
                          [this] { return store_.ok() ? 1.0 : 0.0; });
}

LocalWatch::~LocalWatch() {
  run_on_loop([this] { stopped_ = true; });
  if (actions_) actions_->finish();  // what they post, and what that asks for, still finds everything
  client_.reset();
  sender_.reset();
  run_on_loop([] {});
  loop_.reset();
  if (lock_ >= 0) ::close(lock_);
  metrics_.gauge_callback("homeport_ops_store_ok", "1: incidents reach the disk; 0: they are kept in memory", {},
                          [] { return 0.0; });
}

void LocalWatch::run_on_loop(const std::function<void()>& task) const {
  if (loop_->inside()) return task();
  std::promise<void> done;
  loop_->post([&] {
    task();
    done.set_value();
  });
  done.get_future().get();
}

void LocalWatch::begin() {
  run_on_loop([this] {
    ::pthread_setname_np(::pthread_self(), "hp-watch");
    desk_->take_over(now());
    round();
    if (wiring_.losses) listen();
  });
}

void LocalWatch::start_reading(const std::string& key, net::ClientRequest request,
                               std::function<void(Result<std::string>)> done) {
  if (!reading_.insert(key).second) return;
  request.target = "/metrics";
  request.connect_timeout = kConnectTimeout;
  request.read_timeout = kReadTimeout;
  request.max_body_bytes = limits::kMaxPageBytes;
  struct Answer {
    int status = 0;
    std::string body;
  };
  const auto answer = std::make_shared<Answer>();
  client_->start(std::move(request),
                 {.on_headers = [answer](int status, const net::Headers&) { answer->status = status; },
                  .on_data = [answer](std::string_view bytes) { answer->body += bytes; },
                  .on_done =
                      [this, key, answer, done = std::move(done)](Status outcome) {
                        if (stopped_) return;
                        reading_.erase(key);
                        if (!outcome) return done(fail(std::move(outcome).error()));
                        if (answer->status != 200)
                          return done(fail(ErrorCode::unavailable, "status {}", answer->status));
                        done(std::move(answer->body));
                      }});
}

void LocalWatch::read_node(const KnownNode& node) {
  net::ClientRequest request{.host = node.host, .port = node.port, .tls = node.tls};
  if (!node.api_key.empty()) request.headers.emplace_back("Authorization", "Bearer " + node.api_key);
  start_reading(node.name, std::move(request), [this, name = node.name](Result<std::string> page) {
    const Moment moment = now();
    if (page) return track_.node(name).page(moment.at_ms, moment.wall_ms, read_page(*page));
    const bool late = page.error().code == ErrorCode::deadline_exceeded;
    if (late && moment.at_ms - last_round_ms_ > options_.interval.count() + kOwnPauseMs) return;
    track_.node(name).unreadable(!late);
  });
  if (node.gpu_exporter.empty()) return;
  const auto colon = node.gpu_exporter.rfind(':');
  const std::string port = colon == std::string::npos ? "9400" : node.gpu_exporter.substr(colon + 1);
  net::ClientRequest exporter{.host = node.gpu_exporter.substr(0, colon),
                              .port = static_cast<std::uint16_t>(std::strtoul(port.c_str(), nullptr, 10))};
  start_reading(node.name + " gpu", std::move(exporter), [this, name = node.name](const Result<std::string>& page) {
    track_.node(name).gpus(page ? read_page(*page).gpus : std::vector<GpuView>());
  });
}

void LocalWatch::round() {
  if (stopped_) return;
  const TimePoint begin = clock_.now();
  const Moment moment = now();
  if (wiring_.losses) losses_ = wiring_.losses();
  const std::vector<KnownNode> known = wiring_.nodes ? wiring_.nodes() : std::vector<KnownNode>();
  if (wiring_.gateway_metrics) track_.gateway_page(moment.at_ms, read_page(wiring_.gateway_metrics()));
  track_.round(moment, known);
  const auto exists = [&](std::string_view instance) {
    const std::string_view node = instance.substr(0, instance.find("/gpu"));
    return instance == "cluster" || instance == "gateway" ||
           std::ranges::any_of(known, [&](const KnownNode& k) { return k.name == node; });
  };
  desk_->changes(moment, board_.round(moment, track_.signals(moment), exists));
  std::vector<std::string> serving;
  for (const KnownNode& node : known)
    if (node.serving && node.condition == NodeCondition::ready) serving.push_back(node.name);
  desk_->round(moment, std::move(serving));
  notifier_->round(moment, minute_of_day());
  publish(moment);
  for (const KnownNode& node : known) read_node(node);
  last_round_ms_ = moment.at_ms;
  round_seconds_.observe(to_seconds(clock_.now() - begin));
  next_round_ = loop_->after(options_.interval, [this] { round(); });
}

void LocalWatch::listen() {
  if (stopped_) return;
  if (wiring_.losses() != losses_) {
    loop_->cancel(next_round_);
    round();
  }
  loop_->after(kListenInterval, [this] { listen(); });
}

void LocalWatch::publish(const Moment& moment) {
  auto view = std::make_shared<ClusterView>();
  view->at_ms = moment.wall_ms;
  view->round = ++round_;
  track_.fill(*view);
  view->alerts = board_.alerts();
  view->incidents = desk_->views(moment.wall_ms);
  view->actions = actions_->infos();
  view->channels = notifier_->views();
  view->store_ok = store_.ok();
  view->store_error = store_.error();
  std::array<double, 3> open{};
  for (const IncidentView& incident : view->incidents)
    if (incident.state != IncidentState::closed) open.at(static_cast<std::size_t>(incident.level)) += 1;
  for (const int level : {1, 2})
    metrics_.gauge("homeport_incidents_open", "Incidents that go on", {{"level", std::to_string(level)}})
        .set(open.at(static_cast<std::size_t>(level)));
  show_nodes(view->nodes);
  metrics_.gauge("homeport_alerts_firing", "Alerts that fire")
      .set(static_cast<double>(std::ranges::count(view->alerts, AlertPhase::firing, &AlertView::phase)));
  const std::shared_ptr<const ClusterView> shared = std::move(view);
  {
    const std::lock_guard lock(view_mutex_);
    view_ = shared;
  }
  if (wiring_.on_view) wiring_.on_view(shared);
}

/// For a Prometheus that reads the gateway only: its `up` says nothing of a node behind it.
void LocalWatch::show_nodes(const std::vector<NodeView>& nodes) {
  const auto gauge = [this](const std::string& node) -> Gauge& {
    return metrics_.gauge("homeport_node_up", "0: a node that should answer does not", {{"node", node}});
  };
  std::set<std::string> gone = std::exchange(nodes_shown_, {});
  for (const NodeView& node : nodes) {
    gauge(node.name).set(node.down ? 0 : 1);
    gone.erase(node.name);
    nodes_shown_.insert(node.name);
  }
  for (const std::string& name : gone) gauge(name).set(std::numeric_limits<double>::quiet_NaN());
}

std::shared_ptr<const ClusterView> LocalWatch::view() const {
  const std::lock_guard lock(view_mutex_);
  return view_;
}

void LocalWatch::perform(ActionRequest request, std::function<void(ActionOutcome)> done) {
  const ActionRequest copy = request;
  actions_->perform(std::move(request), [this, copy, done = std::move(done)](ActionOutcome outcome) {
    loop_->post([this, copy, outcome] {
      if (!stopped_) desk_->person_acted(copy, outcome, now());
    });
    done(std::move(outcome));
  });
}

bool LocalWatch::acknowledge(std::int64_t id, std::string_view who) {
  bool ok = false;
  run_on_loop([&] { ok = desk_->acknowledge(id, who, now()); });
  return ok;
}

bool LocalWatch::add_note(std::int64_t id, std::string_view who, std::string_view text) {
  bool ok = false;
  run_on_loop([&] { ok = desk_->note(id, who, text, now()); });
  return ok;
}

std::vector<std::pair<std::string, Status>> LocalWatch::test_notice(std::string_view channel) {
  struct Results {
    std::mutex mutex;
    std::vector<std::pair<std::string, Status>> all;
    std::size_t wanted = 0;
    std::promise<void> complete;
  };
  const auto results = std::make_shared<Results>();
  for (const Channel& c : options_.notices.channels)
    if (channel.empty() || c.name == channel) ++results->wanted;
  if (results->wanted == 0) return {};
  auto complete = results->complete.get_future();
  run_on_loop([&] {
    notifier_->test(channel, now(), [results](std::string name, Status status) {
      const std::lock_guard lock(results->mutex);
      results->all.emplace_back(std::move(name), std::move(status));
      if (results->all.size() == results->wanted) results->complete.set_value();
    });
  });
  static_cast<void>(complete.wait_for(kTestPatience));
  const std::lock_guard lock(results->mutex);
  return results->all;
}

}  // namespace

Result<std::unique_ptr<Watch>> Watch::start(const WatchOptions& options, WatchWiring wiring, MetricsRegistry& metrics) {
  auto watch = std::make_unique<LocalWatch>(options, std::move(wiring), metrics);
  watch->begin();
  return std::unique_ptr<Watch>(std::move(watch));
}

ActionOutcome Watch::perform(const ActionRequest& request) {
  std::promise<ActionOutcome> outcome;
  perform(request, [&outcome](ActionOutcome o) { outcome.set_value(std::move(o)); });
  return outcome.get_future().get();
}

std::string_view to_string(NodeCondition condition) {
  constexpr std::array<std::string_view, 6> kNames{"ready", "loading", "draining", "held", "unreachable", "dead"};
  return kNames[static_cast<std::size_t>(condition)];
}

std::string_view to_string(IncidentState state) {
  return state == IncidentState::open ? "open" : state == IncidentState::recovering ? "recovering" : "closed";
}

}  // namespace hp::ops
