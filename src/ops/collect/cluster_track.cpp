#include "ops/collect/cluster_track.h"

#include <algorithm>
#include <set>

namespace hp::ops {
namespace {

constexpr std::int64_t kMinute = 60'000, kHour = 60 * kMinute, kDay = 24 * kHour;
constexpr std::int64_t kViewWindowMs = 5 * kMinute, kRateWindowMs = 10'000;
constexpr double kErrorBudget = 0.001;  // 99.9 % of a month's requests
constexpr std::string_view kCluster = "cluster";

double days_left(double end_s, const Moment& now) {
  return (end_s - static_cast<double>(now.wall_ms) / 1000) / 86'400;
}

}  // namespace

ClusterTrack::ClusterTrack(const std::vector<Rule>& rules) {
  for (const Rule& rule : rules) {
    windows_[rule.signal] = rule.window_ms;
    events_[rule.signal] = rule.events;
  }
}

std::int64_t ClusterTrack::window(std::string_view signal) const {
  const auto found = windows_.find(signal);
  return found == windows_.end() || found->second == 0 ? kViewWindowMs : found->second;
}

void ClusterTrack::recall(const Moment& now, PastCounts past) {
  for (const auto& [window, growths] : {std::pair{&requests_, &past.requests}, {&given_up_, &past.given_up}}) {
    for (Growth& growth : *growths) {
      growth.from_ms += now.at_ms - now.wall_ms;
      growth.until_ms += now.at_ms - now.wall_ms;
    }
    window->recall(*growths);
  }
}

NodeTrack& ClusterTrack::node(std::string_view name) {
  return nodes_[std::string(name)];
}

void ClusterTrack::gateway_page(std::int64_t at_ms, Page page) {
  gateway_ = std::move(page);
  const auto feed = [&](CounterWindow& window, std::string_view name) {
    if (const auto total = gateway_.total(name)) window.add(at_ms, *total);
  };
  feed(requests_, "homeport_gateway_requests_total");
  feed(timeouts_, "homeport_gateway_timeouts_total");
  feed(refusals_, "homeport_refusals_total");
  feed(given_up_, "homeport_gateway_given_up_total");
  feed(resumes_, "homeport_gateway_resumes_total");
  feed(tokens_, "homeport_gateway_completion_tokens_total");
  feed(prompt_tokens_, "homeport_gateway_prompt_tokens_total");
  const auto follow = [&](HistogramWindow& window, std::string_view name) {
    if (const auto h = gateway_.histograms.find(name); h != gateway_.histograms.end())
      window.add(at_ms, h->second.bounds, h->second.cumulative);
  };
  follow(first_token_, "homeport_gateway_time_to_first_token_seconds");
  follow(gap_, "homeport_gateway_event_gap_seconds");
}

void ClusterTrack::round(const Moment& now, const std::vector<KnownNode>& known) {
  std::erase_if(nodes_, [&](const auto& entry) {
    return std::ranges::none_of(known, [&](const KnownNode& k) { return k.name == entry.first; });
  });
  for (const KnownNode& k : known) nodes_[k.name].round(now.at_ms, now.wall_ms, k);
}

std::optional<double> ClusterTrack::share(const CounterWindow& part, std::int64_t window_ms) const {
  const auto some = part.increase(window_ms), all = requests_.increase(window_ms);
  if (!some || !all) return std::nullopt;
  return *all <= 0 ? 0.0 : *some / *all;  // no requests, no fault: an alert must end when the traffic does
}

/// Over all nodes together: buckets of equal bounds add up.
std::optional<double> ClusterTrack::first_token_p99(std::int64_t window_ms) const {
  std::vector<double> sum, bounds;
  for (const auto& [name, node] : nodes_) {
    const std::vector<double> grown = node.first_token().increase(window_ms);
    if (grown.empty()) continue;
    if (sum.empty()) {
      sum = grown;
      bounds = node.first_token().bounds();
    } else if (bounds == node.first_token().bounds()) {
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += grown[i];
    }
  }
  return quantile(0.99, bounds, sum);
}

void ClusterTrack::node_signals(const Moment& now, const NodeTrack& node, std::vector<SignalSample>& out) const {
  const std::string& name = node.known().name;
  out.push_back({"node_down", name, node.down() ? 1.0 : 0.0});
  out.push_back({"node_changes", name, node.changes(now.at_ms, window("node_changes"))});
  if (!node.readable()) return;
  const auto add = [&](std::string_view signal, std::optional<double> value) {
    if (value) out.push_back({signal, name, *value});
  };
  add("stalled", node.stalled() ? 1.0 : 0.0);
  add("kv_usage_ratio", node.figure("vllm:kv_cache_usage_perc"));
  add("queue_growth_per_second", node.queue_growth(now.at_ms, window("queue_growth_per_second")));
  add("failed_step_ratio", node.failed_step_ratio(window("failed_step_ratio")));
  if (const auto end = node.figure("homeport_certificate_expiry_seconds"))
    add("certificate_days_left", days_left(*end, now));
  const auto free = node.figure("homeport_disk_free_bytes"), total = node.figure("homeport_disk_total_bytes");
  if (free && total && *total > 0) add("disk_used_ratio", 1 - *free / *total);
  for (const GpuView& gpu : node.all_gpus()) {
    const std::string instance = name + "/gpu" + std::to_string(gpu.index);
    if (gpu.temperature_c) out.push_back({"gpu_temperature_celsius", instance, *gpu.temperature_c});
    if (gpu.memory_used_bytes && gpu.memory_total_bytes && *gpu.memory_total_bytes > 0)
      out.push_back({"gpu_memory_used_ratio", instance, *gpu.memory_used_bytes / *gpu.memory_total_bytes});
    if (const auto xids = node.xids(gpu.index, window("gpu_xid_errors")))
      out.push_back({"gpu_xid_errors", instance, *xids});
  }
}

void ClusterTrack::gateway_signals(const Moment& now, std::vector<SignalSample>& out) const {
  const auto add = [&](std::string_view signal, std::optional<double> value) {
    if (value) out.push_back({signal, std::string(kCluster), *value});
  };
  add("timeout_ratio", share(timeouts_, window("timeout_ratio")));
  add("refusal_ratio", share(refusals_, window("refusal_ratio")));
  const auto burn = [&](std::string_view signal, std::int64_t shorter, std::int64_t longer) {
    const auto a = share(given_up_, shorter), b = share(given_up_, longer);
    if (!a || !b) return;
    const auto least = events_.find(signal);
    const bool chance = least != events_.end() && given_up_.increase(longer).value_or(0) < least->second;
    add(signal, chance ? 0 : std::min(*a, *b) / kErrorBudget);
  };
  burn("slo_burn_1h_5m", 5 * kMinute, kHour);
  burn("slo_burn_6h_30m", 30 * kMinute, 6 * kHour);
  burn("slo_burn_3d_6h", 6 * kHour, 3 * kDay);
  if (const auto end = gateway_.total("homeport_certificate_expiry_seconds"))
    out.push_back({"certificate_days_left", "gateway", days_left(*end, now)});
  if (const auto ok = gateway_.total("homeport_ops_store_ok")) add("store_failed", 1 - *ok);
  const auto free = gateway_.total("homeport_disk_free_bytes"), total = gateway_.total("homeport_disk_total_bytes");
  if (free && total && *total > 0) out.push_back({"disk_used_ratio", "gateway", 1 - *free / *total});
}

std::vector<SignalSample> ClusterTrack::signals(const Moment& now) const {
  std::vector<SignalSample> out;
  for (const auto& [name, node] : nodes_) node_signals(now, node, out);
  // Without traffic nobody waits, and an alert ends; with requests open, no first token at all is no good news.
  const auto late = first_token_p99(window("ttft_p99_seconds"));
  if (late || gateway_.total("homeport_gateway_open_requests").value_or(0) <= 0)
    out.push_back({"ttft_p99_seconds", std::string(kCluster), late.value_or(0)});
  gateway_signals(now, out);
  out.push_back({"watchdog", std::string(kCluster), 1});
  return out;
}

void ClusterTrack::fill_models(ClusterView& view) const {
  std::map<std::string, ModelView> models;
  std::map<std::string, std::set<std::string>> weights;
  for (const NodeView& node : view.nodes) {
    if (node.model.empty()) continue;
    ModelView& model = models[node.model];
    model.name = node.model;
    ++model.nodes;
    if (node.condition == NodeCondition::ready) ++model.usable_nodes;
    if (!node.weights.empty()) weights[node.model].insert(node.weights);
  }
  for (auto& [name, model] : models) {
    model.weights.assign(weights[name].begin(), weights[name].end());
    view.models.push_back(std::move(model));
  }
}

void ClusterTrack::fill(ClusterView& view) const {
  ClusterFigures& f = view.figures;
  double kv = 0;
  int with_kv = 0;
  const auto queries = [](const NodeView& n) { return n.cache_hit_ratio; };
  double hits = 0;
  int with_hits = 0;
  for (const auto& [name, node] : nodes_) {
    view.nodes.push_back(node.view());
    const NodeView& v = view.nodes.back();
    ++f.nodes;
    if (v.condition == NodeCondition::ready) ++f.usable_nodes;
    if (v.serving) f.serving_group = v.group;
    if (v.kv_usage && v.condition == NodeCondition::ready) kv += *v.kv_usage, ++with_kv;
    if (queries(v)) hits += *v.cache_hit_ratio, ++with_hits;
  }
  if (with_kv > 0) f.kv_usage = kv / with_kv;
  if (with_hits > 0) f.cache_hit_ratio = hits / with_hits;
  f.requests_per_s = requests_.rate(kRateWindowMs);
  f.tokens_per_s = tokens_.rate(kRateWindowMs);
  f.prompt_tokens_per_s = prompt_tokens_.rate(kRateWindowMs);
  f.resumes_per_s = resumes_.rate(kViewWindowMs);
  f.open_requests = gateway_.total("homeport_gateway_open_requests");
  f.waiting_requests = gateway_.total("homeport_gateway_waiting_requests");
  f.timeout_ratio = share(timeouts_, kViewWindowMs);
  f.refusal_ratio = share(refusals_, kViewWindowMs);
  f.error_ratio = share(given_up_, kViewWindowMs);
  f.requests = gateway_.total("homeport_gateway_requests_total");
  f.given_up = gateway_.total("homeport_gateway_given_up_total");
  f.first_token = latency_view(first_token_, kViewWindowMs);
  f.gap = latency_view(gap_, kViewWindowMs);
  for (const auto& [name, tenant] : gateway_.tenants) view.tenants.push_back(tenant);
  fill_models(view);
}

}  // namespace hp::ops
