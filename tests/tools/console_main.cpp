// A console over a made-up cluster: `console_tool PORT KEY NODES [calm]`. For tests of the pages and for looking at
// them without machines: 200 nodes with seven days of history (with HISTORY_FILE through the file that the product
// keeps), an incident that a POST to /fake/incident starts.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "base/metrics.h"
#include "net/http_server.h"
#include "ops/console/console_server.h"
#include "ops/console/console_view.h"

namespace {
using namespace hp;
using namespace hp::ops;

constexpr std::int64_t kMinute = 60'000, kHour = 3'600'000, kDay = 86'400'000;

double wave(std::int64_t ms, double period_h, double phase) {
  return std::sin(static_cast<double>(ms) / static_cast<double>(kHour) / period_h * 6.2832 + phase);
}
double noise(std::int64_t ms, int n) {
  const auto h = static_cast<std::uint64_t>(ms / 5000) * 0x9E3779B97F4A7C15ULL ^
                 static_cast<std::uint64_t>(n) * 0xC2B2AE3D27D4EB4FULL;
  return static_cast<double>((h ^ (h >> 29)) % 1000) / 1000.0;
}

class FakeWatch final : public Watch {
 public:
  FakeWatch(int nodes, std::string odd) : nodes_(nodes), odd_(std::move(odd)) {}

  ClusterView picture(std::int64_t now) const {
    ClusterView v{.at_ms = now, .round = now / 1000};
    const double day = 0.5 + 0.35 * wave(now, 24, 0);
    for (int n = 0; n < nodes_; ++n) v.nodes.push_back(node(n, now, day));
    ClusterFigures& f = v.figures;
    f.nodes = nodes_;
    f.usable_nodes = static_cast<int>(std::ranges::count(v.nodes, NodeCondition::ready, &NodeView::condition));
    f.serving_group = 0;
    f.tokens_per_s = 0.0;
    for (const NodeView& n : v.nodes) *f.tokens_per_s += n.tokens_per_s.value_or(0);
    f.prompt_tokens_per_s = *f.tokens_per_s * 3.1;
    f.requests_per_s = *f.tokens_per_s / 180;
    f.open_requests = *f.requests_per_s * 4;
    f.waiting_requests = std::floor(day * 6 * noise(now, 1));
    f.kv_usage = 0.3 + 0.4 * day;
    f.cache_hit_ratio = 0.62 + 0.1 * noise(now, 2);
    f.error_ratio = 0.0004 * noise(now, 3);
    f.timeout_ratio = 0.0002;
    f.refusal_ratio = 0.003;
    f.resumes_per_s = 0.0;
    f.first_token = {.p50_s = 0.11 + 0.1 * day, .p90_s = 0.2 + 0.2 * day, .p99_s = 0.31 + 0.3 * day, .per_second = 20};
    v.actions = actions();
    v.tenants = {
        {.name = "acme", .requests = 182'311, .prompt_tokens = 3.2e8, .completion_tokens = 6.1e7, .limited = 12},
        {.name = odd_, .requests = 8'113, .prompt_tokens = 9.9e6, .completion_tokens = 2.2e6},
        {.name = "clinic", .requests = 52'040, .prompt_tokens = 7.4e7, .completion_tokens = 1.9e7, .refusals = 3}};
    v.models = {
        {.name = "deepseek-v2-lite", .nodes = nodes_, .usable_nodes = f.usable_nodes, .weights = {"fp8", "int4"}},
        {.name = odd_, .nodes = 1, .usable_nodes = 1, .weights = {"bf16"}}};
    v.channels = {{.name = "lead", .kind = "dingtalk", .sent = 14},
                  {.name = "mail", .kind = "smtp", .sent = 9, .failed = 1, .last_error = "connection refused"}};
    const std::lock_guard lock(mutex_);
    v.incidents = incidents_;
    for (const IncidentView& i : incidents_)
      if (i.state == IncidentState::open)
        v.alerts.push_back({.rule = i.rule,
                            .instance = i.instance,
                            .incident = i.level,
                            .phase = AlertPhase::firing,
                            .value = 1,
                            .threshold = 0.5,
                            .since_ms = i.started_ms,
                            .en = i.en,
                            .zh = i.zh});
    v.alerts.push_back({.rule = "latency_p99",
                        .instance = odd_,
                        .incident = 2,
                        .phase = AlertPhase::pending,
                        .value = 0.61,
                        .threshold = 0.5,
                        .since_ms = now / kMinute * kMinute - kMinute,
                        .en = odd_,
                        .zh = "首词元延迟 P99 超过 0.5 秒"});
    return v;
  }

  void start_incident() {
    const std::int64_t now = unix_ms_now();
    const std::lock_guard lock(mutex_);
    incidents_.push_back(
        {.id = static_cast<std::int64_t>(incidents_.size()) + 1,
         .level = 1,
         .rule = "node_down",
         .instance = "node003",
         .en = "A node does not answer",
         .zh = "节点无响应",
         .started_ms = now - 1400,
         .timeline = {{now - 1400, "detected", "rule:node_down", "", "node003", "no answer for 3 rounds"},
                      {now - 1200, "action", "playbook:level1", "switch_group", "1", "12 streams moved, none lost"},
                      {now - 900, "action", "playbook:level1", "bundle", "", "homeport-1.tar.zst, 214 KiB, 1.9 s"},
                      {now - 700, "notice", "playbook:level1", "", "lead", "dingtalk accepted the message"},
                      {now - 500, "action", "playbook:level1", "restart_node", "node003", odd_}}});
  }

  std::shared_ptr<const ClusterView> view() const override {
    return std::make_shared<const ClusterView>(picture(unix_ms_now()));
  }
  void perform(ActionRequest request, std::function<void(ActionOutcome)> done) override {
    {
      const std::lock_guard lock(mutex_);
      audit_.insert(audit_.begin(), {.at_ms = unix_ms_now(),
                                     .who = request.who,
                                     .action = request.action,
                                     .target = request.target,
                                     .argument = request.argument,
                                     .text = "as asked",
                                     .ok = true,
                                     .dry_run = request.dry_run});
      if (request.action == "drain_node" && !request.dry_run) held_ = request.target;
      if (request.action == "undrain_node" && !request.dry_run) held_.clear();
    }
    done({.ok = true,
          .text = fmt::format("{} {} {}", request.dry_run ? "would" : "did", request.action, request.target)});
  }
  std::vector<IncidentView> incidents(const IncidentQuery&) const override {
    const std::lock_guard lock(mutex_);
    return incidents_;
  }
  std::vector<AuditEntry> audit(std::int64_t, std::size_t) const override {
    const std::lock_guard lock(mutex_);
    return audit_;
  }
  bool acknowledge(std::int64_t id, std::string_view who) override {
    const std::lock_guard lock(mutex_);
    for (IncidentView& i : incidents_)
      if (i.id == id) i.acknowledged_by = who;
    return true;
  }
  bool add_note(std::int64_t id, std::string_view who, std::string_view text) override {
    const std::lock_guard lock(mutex_);
    for (IncidentView& i : incidents_)
      if (i.id == id) i.timeline.push_back({unix_ms_now(), "note", std::string(who), "", "", std::string(text)});
    return true;
  }
  void recall(PastCounts) override {}
  std::vector<std::pair<std::string, Status>> test_notice(std::string_view channel) override {
    return {{std::string(channel), Status{}}};
  }

 private:
  NodeView node(int n, std::int64_t now, double day) const {
    NodeView v{.name = fmt::format("node{:03}", n),
               .address = fmt::format("10.0.{}.{}:8000", n / 200, n % 200 + 10),
               .model = n == 7 ? odd_ : "deepseek-v2-lite",
               .device = "NVIDIA H100 80GB HBM3",
               .weights = n % 4 == 3 ? "int4" : "fp8",
               .group = n * 4 / 3 >= nodes_ ? 1 : 0,
               .since_ms = now / kDay * kDay - 3 * kDay,
               .seen_ms = now,
               .controllable = true,
               .has_gpu = true};
    v.serving = v.group == 0;
    v.condition = NodeCondition::ready;
    {
      const std::lock_guard lock(mutex_);
      if (v.name == held_) v.condition = NodeCondition::held;
      for (const IncidentView& i : incidents_)
        if (i.state == IncidentState::open && i.instance == v.name) v.condition = NodeCondition::unreachable;
    }
    if (v.condition == NodeCondition::unreachable) return v;
    const double busy = v.serving ? std::clamp(day + 0.15 * wave(now, 5, n) + 0.08 * noise(now, n), 0.02, 1.0) : 0.02;
    v.running = std::floor(busy * 48);
    v.waiting = busy > 0.9 ? std::floor(noise(now, n) * 5) : 0;
    v.kv_usage = 0.12 + 0.75 * busy;
    v.tokens_per_s = busy * 2100;
    v.prompt_tokens_per_s = busy * 6400;
    v.cache_hit_ratio = 0.6 + 0.15 * wave(now, 9, n);
    v.max_step_tokens = 2048;
    v.max_running = 64;
    v.first_token = {
        .p50_s = 0.08 + 0.1 * busy, .p90_s = 0.14 + 0.2 * busy, .p99_s = 0.2 + 0.3 * busy, .per_second = busy * 11};
    v.host = {.cpu_ratio = 0.08 + 0.2 * busy,
              .memory_used_bytes = 9.1e10,
              .memory_total_bytes = 5.4e11,
              .disk_free_bytes = 2.8e12,
              .disk_total_bytes = 4e12,
              .receive_bytes_s = 2e6 * busy,
              .send_bytes_s = 3e6 * busy};
    for (int g = 0; g < 2; ++g)
      v.gpus.push_back({.index = g,
                        .name = "NVIDIA H100 80GB HBM3",
                        .temperature_c = 41 + 38 * busy + g,
                        .memory_used_bytes = 7.1e10,
                        .memory_total_bytes = 8.5e10,
                        .power_w = 120 + 540 * busy,
                        .power_limit_w = 700,
                        .clock_mhz = 1980,
                        .utilization = busy,
                        .ecc_errors = 0,
                        .xid_errors = 0,
                        .throttled = n == 11,
                        .throttle_reasons = n == 11 ? "sw_thermal" : ""});
    return v;
  }
  std::vector<ActionInfo> actions() const {
    return {{.name = "drain_node", .en = "Drain", .zh = "排空", .undo = "undrain_node"},
            {.name = "undrain_node", .en = "Take back into service", .zh = "恢复服务", .undo = "drain_node"},
            {.name = "restart_node", .en = "Restart", .zh = "重启", .dangerous = true},
            {.name = "shrink_batch",
             .en = "Smaller batches",
             .zh = "缩小批次",
             .argument = "tokens",
             .undo = "restore_batch"},
            {.name = "switch_group",
             .target = ActionTarget::group,
             .en = "Switch all traffic to a group",
             .zh = "切换流量到组",
             .undo = "switch_group",
             .dangerous = true},
            {.name = "scale_out",
             .target = ActionTarget::cluster,
             .en = "Ask for one more node",
             .zh = "申请增加节点",
             .allowed = false}};
  }
  const int nodes_;
  const std::string odd_;
  mutable std::mutex mutex_;
  std::vector<IncidentView> incidents_;
  std::vector<AuditEntry> audit_;
  std::string held_;
};

// The cumulative page of a gateway at that moment.
std::string page_at(std::int64_t ms) {
  static double counts[5] = {};
  const double day = 0.5 + 0.35 * wave(ms, 24, 0);
  const double fresh[5] = {40 * (1 - day), 60, 50 * day, 12 * day, 1};
  std::string page;
  double sum = 0;
  static constexpr const char* kLe[5] = {"0.1", "0.25", "0.5", "1", "+Inf"};
  for (int i = 0; i < 5; ++i) {
    sum += counts[i] += fresh[i] * (0.8 + 0.4 * noise(ms, i));
    page += fmt::format("homeport_gateway_time_to_first_token_seconds_bucket{{le=\"{}\"}} {}\n", kLe[i], sum);
    page += fmt::format("homeport_gateway_event_gap_seconds_bucket{{le=\"{}\"}} {}\n",
                        i == 4 ? "+Inf" : fmt::format("{}", 0.01 * (i + 1)), sum);
  }
  return page;
}

void walk(History& history, const FakeWatch& watch, std::int64_t from, std::int64_t to, std::int64_t step,
          const History::SlotClosed& closed = {}) {
  for (std::int64_t t = from; t < to; t += step) {
    history.advance(t, closed);
    record_view(history, watch.picture(t));
    record_latencies(history, page_at(t));
  }
}

void walk_days(History& history, const FakeWatch& watch, std::int64_t now, const History::SlotClosed& closed = {}) {
  walk(history, watch, now - 7 * kDay, now - 6 * kHour, 10 * kMinute, closed);
  walk(history, watch, now - 6 * kHour, now - 15 * kMinute, kMinute, closed);
}

/// What a process that watched for a week would have left on the disk.
void write_days(const char* path, const FakeWatch& watch, std::int64_t now) {
  History history;
  HistoryFile file(path);
  if (const Status opened = file.open(history, now); !opened)
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
  walk_days(history, watch, now, [&](std::size_t r, std::int64_t slot) { file.append(history, r, slot, now); });
}

void stream_answer(const std::string& body, const std::shared_ptr<net::ResponseWriter>& writer) {
  writer->begin_stream(200, {{"Homeport-Stream", "0123456789abcdef0123456789abcdef"}}, "text/event-stream");
  std::thread([writer, echo = body] {
    std::string quoted;
    append_json_string(quoted, "Echo: " + echo.substr(0, 400));
    writer->write("data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Let me think. \"}}]}\n\n");
    for (const char* word : {"\"One \"", "\"word \"", "\"at \"", "\"a \"", "\"time. \""}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(60));
      writer->write(fmt::format("data: {{\"choices\":[{{\"delta\":{{\"content\":{}}}}}]}}\n\n", word));
    }
    writer->write(fmt::format("data: {{\"choices\":[{{\"delta\":{{\"content\":{}}}}}]}}\n\n", quoted));
    writer->write("data: {\"choices\":[],\"usage\":{\"completion_tokens\":48}}\n\ndata: [DONE]\n\n");
    writer->end();
  }).detach();
}
}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const std::string odd = std::getenv("ODD_NAME") != nullptr ? std::getenv("ODD_NAME") : "branch-7b";
  FakeWatch watch(std::atoi(argv[3]), odd);
  ConsoleSource source = watch_source(watch, [] { return page_at(unix_ms_now()); });
  const char* history_file = std::getenv("HISTORY_FILE");
  if (history_file != nullptr) write_days(history_file, watch, unix_ms_now());
  source.record = [&, record = source.record, filled = false](History& history) mutable {
    if (!std::exchange(filled, true)) {
      const std::int64_t now = unix_ms_now();
      if (history_file == nullptr) walk_days(history, watch, now);
      walk(history, watch, now - 15 * kMinute, now, 5'000);
      history.advance(now);
    }
    record(history);
  };
  source.journey = [](std::string_view stream) -> Result<std::string> {
    if (stream.size() != 32) return fail(ErrorCode::not_found, "there is no such stream");
    return R"({"legs":[{"node":"node000","from_token":0,"tokens":31},{"node":"node004","from_token":31,"tokens":17}]})";
  };
  const ConsoleForward chat = [](net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
    stream_answer(request.body, writer);
  };
  const auto console = Console::start(
      {.keys = *parse_console_keys(fmt::format("ada admin {}\nbob viewer {}-viewer", argv[2], argv[2]), "arguments"),
       .secret = "a secret of the test",
       .history_file = history_file != nullptr ? history_file : "",
       .version = "test"},
      std::move(source));
  MetricsRegistry metrics;
  auto server = net::HttpServer::start(
      {.port = static_cast<std::uint16_t>(std::atoi(argv[1]))},
      [&](net::HttpRequest request, std::shared_ptr<net::ResponseWriter> writer) {
        if (request.path == "/fake/incident") {
          watch.start_incident();
          return writer->send({.body = "{}"});
        }
        if (!console->handle(request, writer, chat)) writer->send({.status = 404, .headers = {}, .body = "{}"});
      },
      metrics);
  if (!server) return 1;
  std::printf("%d\n", (*server)->port());
  std::fflush(stdout);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  int signal = 0;
  sigwait(&set, &signal);
  return 0;
}
