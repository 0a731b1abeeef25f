#include "planner/autoscale_sim.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <functional>
#include <queue>

#include "base/counter_rng.h"

namespace hp::planner {
namespace data {
extern const std::string_view curve_daily_csv;
extern const std::string_view curve_bursty_csv;
extern const std::string_view curve_ramp_csv;
extern const std::string_view curve_spikes_csv;
}  // namespace data
namespace {

constexpr double kTick = 0.2;
constexpr double kControlPeriod = 15;
constexpr double kRateWindow = 30;
constexpr double kPrefillShare = 0.7;  // of a tick, while others decode

/// One replica in time: prefills in order of arrival, decodes advance together.
struct Replica {
  double ready_at = 0;
  bool draining = false;
  std::deque<double> prompts;  // arrival times
  double prefill_left = 0;
  double decoded = 0;  // tokens that every running sequence has advanced since the start
  std::priority_queue<double, std::vector<double>, std::greater<>> ends;  // value of `decoded` at which one is done
  [[nodiscard]] double load() const { return static_cast<double>(prompts.size() + ends.size()); }
};

class Cluster {
 public:
  Cluster(const LoadCurve& curve, const SimulationInputs& in) : curve_(curve), in_(in) {
    resize(in.scaler == Scaler::fixed ? in.fixed_replicas : std::max(in.policy.min_replicas, 1));
    for (Replica& r : replicas_) r.ready_at = 0;
  }

  SimulationResult run() {
    const double end = curve_.step_s * static_cast<double>(curve_.requests_per_second.size());
    double next_control = kControlPeriod;
    while (now_ < end) {
      arrive();
      dispatch();
      for (Replica& r : replicas_) work(r);
      std::erase_if(replicas_, [](const Replica& r) { return r.draining && r.load() == 0; });
      now_ += kTick;
      if (now_ >= next_control) {
        control();
        next_control += kControlPeriod;
        if (missed_ > in_.give_up_missed || provisioned_ > 3600 * in_.give_up_hours) return {};
      }
    }
    return result();
  }

 private:
  [[nodiscard]] bool usable(const Replica& r) const { return !r.draining && r.ready_at <= now_; }

  void arrive() {
    // The exponential gaps of a Poisson process, in operational time.
    arrival_budget_ -= curve_.at(now_) * kTick;
    while (arrival_budget_ <= 0) {
      queue_.push_back(now_);
      recent_arrivals_.push_back(now_);
      ++requests_;
      const double u = 1 - uniform_at(in_.seed, requests_, 0);
      arrival_budget_ += -std::log(u);
    }
    while (!recent_arrivals_.empty() && recent_arrivals_.front() < now_ - kRateWindow) recent_arrivals_.pop_front();
  }

  void dispatch() {
    while (!queue_.empty()) {
      Replica* best = nullptr;
      for (Replica& r : replicas_) {
        if (usable(r) && r.load() < in_.replica.max_sequences && (best == nullptr || r.load() < best->load()))
          best = &r;
      }
      if (best == nullptr) return;
      best->prompts.push_back(queue_.front());
      queue_.pop_front();
    }
  }

  void work(Replica& r) {
    provisioned_ += kTick;
    if (r.ready_at > now_) return;
    double left = kTick;
    if (r.load() > 0) busy_ += kTick;
    double for_prefill = r.ends.empty() ? left : left * kPrefillShare;
    while (!r.prompts.empty() && for_prefill > 0) {
      if (r.prefill_left <= 0) r.prefill_left = in_.replica.prefill_s;
      const double used = std::min(for_prefill, r.prefill_left);
      r.prefill_left -= used;
      for_prefill -= used;
      left -= used;
      if (r.prefill_left > 1e-12) break;
      first_tokens_.push_back(now_ + (kTick - left) - r.prompts.front());
      recent_ttft_.push_back({now_, first_tokens_.back()});
      missed_ += first_tokens_.back() > in_.policy.ttft_target_s ? 1 : 0;
      r.prompts.pop_front();
      r.ends.push(r.decoded + in_.replica.output_tokens);
    }
    if (r.ends.empty()) return;
    r.decoded += std::max(0.0, left) / in_.replica.step_s(static_cast<double>(r.ends.size()));
    while (!r.ends.empty() && r.ends.top() <= r.decoded) r.ends.pop();
  }

  void resize(int want) {
    int have = 0;
    for (const Replica& r : replicas_) have += r.draining ? 0 : 1;
    for (; have < want; ++have) replicas_.push_back({.ready_at = now_ + in_.policy.warmup_s});
    // The one that serves least leaves first; it finishes what it has.
    for (; have > want; --have) {
      Replica* least = nullptr;
      for (Replica& r : replicas_) {
        const double load = r.ready_at > now_ ? -1 : r.load();
        if (!r.draining && (least == nullptr || load < (least->ready_at > now_ ? -1 : least->load()))) least = &r;
      }
      least->draining = true;
    }
    peak_ = std::max(peak_, want);
  }

  void control() {
    while (!recent_ttft_.empty() && recent_ttft_.front().at_s < now_ - kRateWindow) recent_ttft_.pop_front();
    ScalingSignals s{.now_s = now_,
                     .arrivals_per_s = static_cast<double>(recent_arrivals_.size()) / kRateWindow,
                     .queued = static_cast<double>(queue_.size()),
                     .ready = 0,
                     .starting = 0};
    double running = 0;
    for (const Replica& r : replicas_) {
      if (r.draining) continue;
      ++(r.ready_at <= now_ ? s.ready : s.starting);
      running += r.load();
      s.queued += static_cast<double>(r.prompts.size());
    }
    s.kv_usage = running / std::max(1.0, static_cast<double>(s.ready * in_.replica.max_sequences));
    std::vector<double> ttft;
    for (const ScalingState::Sample& sample : recent_ttft_) ttft.push_back(sample.value);
    if (!ttft.empty()) {
      const auto at = ttft.begin() + static_cast<std::ptrdiff_t>(static_cast<double>(ttft.size() - 1) * 0.99);
      std::nth_element(ttft.begin(), at, ttft.end());
      s.ttft_p99_s = *at;
    }
    if (in_.scaler == Scaler::law) resize(wanted_replicas(in_.policy, state_, s));
    if (in_.scaler == Scaler::cpu_hpa) resize(hpa(s));
    busy_ = 0;
  }

  /// Kubernetes' rule for a utilization target: ceil(ready * now / target), a tolerance of 10 %, shrinking only to the
  /// largest wish of the last 300 s. Its signal, the share of time that a replica is busy, is full long before a batch
  /// is.
  int hpa(const ScalingSignals& s) {
    const double utilization = busy_ / (kControlPeriod * std::max(1, s.ready));
    const double ratio = utilization / in_.hpa_target;
    const int have = s.ready + s.starting;
    double want = std::fabs(ratio - 1) <= 0.1 ? have : std::ceil(s.ready * ratio - 1e-9);
    want = std::clamp(want, static_cast<double>(in_.policy.min_replicas), static_cast<double>(in_.policy.max_replicas));
    state_.wishes.push_back({now_, want});
    while (state_.wishes.front().at_s < now_ - 300) state_.wishes.pop_front();
    double largest = 0;
    for (const ScalingState::Sample& wish : state_.wishes) largest = std::max(largest, wish.value);
    return static_cast<int>(want >= have ? want : std::min<double>(have, largest));
  }

  SimulationResult result() {
    SimulationResult out{.requests = requests_, .peak_replicas = peak_};
    // Whoever still waits has missed the target or not yet; those past it count as missed.
    double late = 0, total = static_cast<double>(first_tokens_.size());
    for (const double t : first_tokens_) late += t > in_.policy.ttft_target_s ? 1 : 0;
    for (const double arrival : queue_) {
      if (now_ - arrival > in_.policy.ttft_target_s) ++late, ++total;
    }
    out.slo_attainment = total > 0 ? 1 - late / total : 1;
    out.replica_hours = provisioned_ / 3600;
    out.mean_replicas = provisioned_ / now_;
    out.utilization = static_cast<double>(requests_) / (provisioned_ * in_.policy.replica_rps);
    std::sort(first_tokens_.begin(), first_tokens_.end());
    const auto quantile = [&](double q) {
      return first_tokens_.empty()
                 ? 0
                 : first_tokens_[static_cast<std::size_t>(q * static_cast<double>(first_tokens_.size() - 1))];
    };
    out.ttft_p50_s = quantile(0.5);
    out.ttft_p99_s = quantile(0.99);
    return out;
  }

  const LoadCurve& curve_;
  const SimulationInputs& in_;
  double now_ = 0, arrival_budget_ = 0, provisioned_ = 0, busy_ = 0, missed_ = 0;
  std::uint64_t requests_ = 0;
  int peak_ = 0;
  std::vector<Replica> replicas_;
  std::deque<double> queue_, recent_arrivals_;
  std::deque<ScalingState::Sample> recent_ttft_;
  std::vector<double> first_tokens_;
  ScalingState state_;
};

LoadCurve scaled(std::string_view name, std::string_view csv, double peak_rps) {
  LoadCurve curve = *curve_from_csv(csv, name, 60);
  curve.name = name;
  const double factor = peak_rps / curve.peak();
  for (double& v : curve.requests_per_second) v *= factor;
  return curve;
}

}  // namespace

double LoadCurve::at(double seconds) const {
  if (requests_per_second.empty()) return 0;
  const double x = std::max(0.0, seconds / step_s - 0.5);
  const auto i = std::min(static_cast<std::size_t>(x), requests_per_second.size() - 1);
  const auto j = std::min(i + 1, requests_per_second.size() - 1);
  const double t = std::min(1.0, x - static_cast<double>(i));
  return requests_per_second[i] * (1 - t) + requests_per_second[j] * t;
}

double LoadCurve::peak() const {
  return requests_per_second.empty() ? 0 : *std::max_element(requests_per_second.begin(), requests_per_second.end());
}

Result<LoadCurve> curve_from_csv(std::string_view text, std::string_view source_name, double step_s) {
  LoadCurve out{.name = std::string(source_name), .step_s = step_s};
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view row = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!row.empty() && row.back() == '\r') row.remove_suffix(1);
    if (row.empty()) continue;
    double value = 0;
    const auto [rest, error] = std::from_chars(row.data(), row.data() + row.size(), value);
    if (error != std::errc() || rest != row.data() + row.size() || value < 0 || !std::isfinite(value))
      return fail(ErrorCode::invalid_argument,
                  "{}:{}: expected requests per second as one number from 0 up, found '{}'", source_name, line, row);
    out.requests_per_second.push_back(value);
  }
  if (out.requests_per_second.empty() || out.peak() <= 0)
    return fail(ErrorCode::invalid_argument, "{}: expected at least one load above 0, one number per line, found none",
                source_name);
  return out;
}

std::vector<LoadCurve> shipped_curves(double peak_rps) {
  return {scaled("daily", data::curve_daily_csv, peak_rps), scaled("bursty", data::curve_bursty_csv, peak_rps),
          scaled("ramp", data::curve_ramp_csv, peak_rps), scaled("spikes", data::curve_spikes_csv, peak_rps)};
}

SimulationResult simulate(const LoadCurve& curve, const SimulationInputs& inputs) {
  return Cluster(curve, inputs).run();
}

std::vector<Comparison> compare_scalers(const std::vector<LoadCurve>& curves, SimulationInputs in, double attainment) {
  const int most = in.policy.max_replicas;
  std::vector<Comparison> out;
  for (const LoadCurve& curve : curves) {
    double expected = 0;
    for (const double rps : curve.requests_per_second) expected += rps * curve.step_s;
    in.give_up_missed = (1 - attainment) * expected * 1.02;
    in.give_up_hours = 1e18;
    in.policy.min_replicas = 1;
    in.policy.max_replicas = most;
    Comparison c{.curve = curve.name};
    in.scaler = Scaler::fixed;
    for (in.fixed_replicas = 1; in.fixed_replicas <= most; ++in.fixed_replicas) {
      c.fixed = simulate(curve, in);
      if (c.fixed.slo_attainment >= attainment) break;
    }
    in.policy.max_replicas = 2 * in.fixed_replicas;
    c.hpa.replica_hours = c.law.replica_hours = 1e18;
    const auto better = [&](SimulationResult& best) {
      in.give_up_hours = best.replica_hours;
      const SimulationResult r = simulate(curve, in);
      if (r.slo_attainment < attainment || r.replica_hours >= best.replica_hours) return false;
      best = r;
      return true;
    };
    in.scaler = Scaler::cpu_hpa;
    for (const double target : {0.95, 0.9, 0.8, 0.7, 0.6, 0.4}) {
      in.hpa_target = target;
      if (better(c.hpa)) c.hpa_target = target;
    }
    in.scaler = Scaler::law;
    for (const double floor : {0.0, 0.5, 1.0}) {
      in.policy.min_replicas = std::max(1, static_cast<int>(std::ceil(floor * in.fixed_replicas)));
      for (const double window : {300.0, 1800.0}) {
        in.policy.down_window_s = window;
        for (const double target : {1.1, 1.0, 0.9, 0.8, 0.7, 0.6}) {
          in.policy.utilization_target = target;
          if (better(c.law)) c.law_target = target, c.law_window_s = window, c.law_floor = in.policy.min_replicas;
        }
      }
    }
    out.push_back(std::move(c));
  }
  return out;
}

}  // namespace hp::planner
