#include "ops/collect/node_track.h"

#include <algorithm>
#include <cmath>

#include "ops/limits.h"

namespace hp::ops {
namespace {

constexpr int kLateReadings = 2;                    // in a row: the node is not merely busy
constexpr std::int64_t kStartPatienceMs = 120'000;  // a node that was never ready is not down yet: it loads
constexpr std::int64_t kViewWindowMs = 300'000, kRateWindowMs = 10'000;
constexpr double kShortQueue = 20;
constexpr std::int64_t kLongestWindowMs = 3'600'000;

}  // namespace

LatencyView latency_view(const HistogramWindow& window, std::int64_t window_ms) {
  LatencyView view;
  view.bounds = window.bounds();
  view.totals = window.totals();
  const std::vector<double> grown = window.increase(window_ms);
  if (grown.empty()) return view;
  view.p50_s = quantile(0.5, window.bounds(), grown);
  view.p90_s = quantile(0.9, window.bounds(), grown);
  view.p99_s = quantile(0.99, window.bounds(), grown);
  if (const double seconds = window.seconds(window_ms); seconds > 0) view.per_second = grown.back() / seconds;
  return view;
}

void NodeTrack::page(std::int64_t at_ms, std::int64_t wall_ms, Page page) {
  page_ = std::move(page);
  read_ok_ = ever_read_ = true;
  failures_ = 0;
  seen_wall_ms_ = wall_ms;
  const auto feed = [&](CounterWindow& window, std::string_view name) {
    if (const auto total = page_.total(name)) window.add(at_ms, *total);
  };
  feed(steps_, "homeport_steps_total");
  feed(failed_steps_, "homeport_failed_steps_total");
  feed(tokens_, "vllm:generation_tokens_total");
  feed(prompt_tokens_, "vllm:prompt_tokens_total");
  feed(prefix_queries_, "vllm:prefix_cache_queries_total");
  feed(prefix_hits_, "vllm:prefix_cache_hits_total");
  feed(received_, "homeport_host_network_receive_bytes_total");
  feed(sent_, "homeport_host_network_send_bytes_total");
  for (const GpuView& gpu : page_.gpus)
    if (gpu.xid_errors) xids_[gpu.index].add(at_ms, *gpu.xid_errors);
  const auto follow = [&](HistogramWindow& window, std::string_view name) {
    if (const auto h = page_.histograms.find(name); h != page_.histograms.end())
      window.add(at_ms, h->second.bounds, h->second.cumulative);
  };
  follow(first_token_, "vllm:time_to_first_token_seconds");
  follow(between_tokens_, "vllm:inter_token_latency_seconds");
  queue_.push_back({at_ms, page_.total("vllm:num_requests_waiting").value_or(0)});
  while (queue_.size() > limits::kMaxWindowSnapshots) queue_.pop_front();
  // The heartbeat of Homeport's own nodes counts prefilled tokens as well; others tell of generated ones only.
  const double running = page_.total("vllm:num_requests_running").value_or(0);
  const double progress =
      page_.total("homeport_step_tokens_total").value_or(page_.total("vllm:generation_tokens_total").value_or(0));
  stalled_ = running > 0 && progress == progress_;
  progress_ = progress;
  const double started = page_.total("process_start_time_seconds").value_or(0);
  if (started_ > 0 && started - started_ > 1) reborn_ = true;
  started_ = started;
}

void NodeTrack::unreadable(bool certain) {
  failures_ += certain ? kLateReadings : 1;
  if (failures_ >= kLateReadings) read_ok_ = false;
}

NodeCondition NodeTrack::condition() const {
  const NodeCondition c = known_.condition;
  if (c == NodeCondition::unreachable && read_ok_) return NodeCondition::loading;
  if (c == NodeCondition::ready && known_.homeport && ever_read_ && !read_ok_) return NodeCondition::dead;
  return c == NodeCondition::ready && known_.held ? NodeCondition::held : c;
}

void NodeTrack::set_down(bool down, std::int64_t at_ms) {
  if (down == down_) return;
  down_ = down;
  changes_.push_back(at_ms);
  while (!changes_.empty() && changes_.front() < at_ms - kLongestWindowMs) changes_.pop_front();
}

void NodeTrack::round(std::int64_t at_ms, std::int64_t wall_ms, const KnownNode& known) {
  if (first_ms_ < 0) {
    first_ms_ = at_ms;
    deaths_ = known.deaths;
  }
  const bool died = known.deaths > deaths_ || (reborn_ && condition_ != NodeCondition::draining);
  deaths_ = known.deaths;
  reborn_ = false;
  known_ = known;
  const NodeCondition before = condition_;
  condition_ = condition();
  if (condition_ != before || since_wall_ms_ == 0) since_wall_ms_ = wall_ms;
  const bool up = condition_ == NodeCondition::ready || condition_ == NodeCondition::held;
  ever_ready_ = ever_ready_ || up;
  if (died) return set_down(true, at_ms);
  if (up) return set_down(false, at_ms);
  if (condition_ == NodeCondition::draining || known.restarting) return;
  const bool lost = condition_ == NodeCondition::dead || (condition_ == NodeCondition::unreachable && !read_ok_);
  if (lost && (ever_ready_ || at_ms - first_ms_ >= kStartPatienceMs)) set_down(true, at_ms);
}

double NodeTrack::changes(std::int64_t at_ms, std::int64_t window_ms) const {
  return static_cast<double>(std::ranges::count_if(changes_, [&](std::int64_t t) { return t > at_ms - window_ms; }));
}

std::optional<double> NodeTrack::queue_growth(std::int64_t at_ms, std::int64_t window_ms) const {
  if (queue_.size() < 2) return std::nullopt;
  if (queue_.back().waiting <= kShortQueue) return 0.0;
  double n = 0, st = 0, sq = 0, stt = 0, stq = 0;
  for (const Queue& q : queue_) {
    if (q.at_ms < at_ms - window_ms) continue;
    const double t = static_cast<double>(q.at_ms - at_ms) / 1000;
    n += 1, st += t, sq += q.waiting, stt += t * t, stq += t * q.waiting;
  }
  const double spread = n * stt - st * st;
  if (n < 2 || spread <= 0) return 0.0;
  return (n * stq - st * sq) / spread;
}

std::optional<double> NodeTrack::failed_step_ratio(std::int64_t window_ms) const {
  const auto steps = steps_.increase(window_ms), failed = failed_steps_.increase(window_ms);
  if (!steps || !failed) return std::nullopt;
  if (*steps + *failed <= 0) return 0.0;
  return *failed / std::max(*steps, *failed);  // a node may count a failed step among its steps or beside them
}

std::optional<double> NodeTrack::xids(int gpu, std::int64_t window_ms) const {
  const auto found = xids_.find(gpu);
  return found == xids_.end() ? std::nullopt : found->second.increase(window_ms);
}

NodeView NodeTrack::view() const {
  NodeView v;
  v.name = known_.name;
  v.address = known_.host.starts_with("unix:") ? known_.host : known_.host + ":" + std::to_string(known_.port);
  v.model = page_.model;
  v.device = page_.device;
  v.weights = page_.weights;
  v.group = known_.group;
  v.serving = known_.serving;
  v.condition = condition_;
  v.down = down_;
  v.since_ms = since_wall_ms_;
  v.seen_ms = seen_wall_ms_;
  v.controllable = known_.controllable;
  v.gpus = all_gpus();
  v.has_gpu = !v.gpus.empty();
  if (!read_ok_) return v;
  v.host = {.cpu_ratio = page_.total("homeport_host_cpu_ratio"),
            .memory_used_bytes = page_.total("homeport_host_memory_used_bytes"),
            .memory_total_bytes = page_.total("homeport_host_memory_total_bytes"),
            .disk_free_bytes = page_.total("homeport_disk_free_bytes"),
            .disk_total_bytes = page_.total("homeport_disk_total_bytes"),
            .receive_bytes_s = received_.rate(kRateWindowMs),
            .send_bytes_s = sent_.rate(kRateWindowMs)};
  v.running = page_.total("vllm:num_requests_running");
  v.waiting = page_.total("vllm:num_requests_waiting");
  v.kv_usage = page_.total("vllm:kv_cache_usage_perc");
  v.tokens_per_s = tokens_.rate(kRateWindowMs);
  v.prompt_tokens_per_s = prompt_tokens_.rate(kRateWindowMs);
  const auto queries = prefix_queries_.increase(kViewWindowMs), hits = prefix_hits_.increase(kViewWindowMs);
  if (queries && hits && *queries > 0) v.cache_hit_ratio = *hits / *queries;
  v.failed_step_ratio = failed_step_ratio(kViewWindowMs);
  v.max_step_tokens = page_.total("homeport_max_step_tokens");
  v.max_running = page_.total("homeport_max_running");
  v.first_token = latency_view(first_token_, kViewWindowMs);
  v.between_tokens = latency_view(between_tokens_, kViewWindowMs);
  return v;
}

}  // namespace hp::ops
