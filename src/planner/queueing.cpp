#include "planner/queueing.h"

#include <algorithm>
#include <cmath>

namespace hp::planner {
namespace {

constexpr double kZ99 = 2.3263;
constexpr double kMaxSequences = 1024;
constexpr int kFixedPointRounds = 200;

struct Shared {
  bool stable = false;
  double sequences = 0, step = 0, prefill = 0;  // prefill: one mean prompt, its chunks' share of decodes included
  double prefill_share = 0;
};

/// The number of running sequences at which arrivals and departures balance: Little's law, by damped iteration.
Shared balance(const Placement& placement, const ReplicaLoad& load) {
  const double cached = load.prompt_tokens * load.prefix_hit_share;
  const double fresh = std::max(load.prompt_tokens - cached, 1.0);
  const double chunks = std::ceil(fresh / load.chunk_tokens);
  const double context = load.prompt_tokens + load.output_tokens / 2;
  const double alone = prefill_seconds(placement, load.prompt_tokens, cached);
  Shared out;
  double sequences = 0.01;
  for (int i = 0; i < kFixedPointRounds; ++i) {
    out.step = decode_step_seconds(placement, std::max(sequences, 1.0), context);
    // A chunk's step reads the weights once for prefill and decodes; what the decodes add is the part beyond one row.
    const double carried = out.step - decode_step_seconds(placement, 1, context);
    out.prefill = std::max(alone, chunks * decode_step_seconds(placement, 1, context)) + chunks * carried;
    out.prefill_share = load.requests_per_second * out.prefill;
    if (out.prefill_share >= 0.98) return out;
    const double next = load.requests_per_second * load.output_tokens * out.step / (1 - out.prefill_share);
    if (next > kMaxSequences) return out;
    if (std::fabs(next - sequences) < 1e-6 * next) {
      sequences = next;
      out.stable = true;
      break;
    }
    sequences = 0.5 * (sequences + next);
  }
  out.sequences = sequences;
  return out;
}

}  // namespace

double lognormal_p99(double cv) {
  const double variance = std::log1p(cv * cv);
  return std::exp(kZ99 * std::sqrt(variance) - variance / 2);
}

QueueWait mg1_wait(double utilization, double service_mean, double service_cv) {
  if (utilization <= 0) return {};
  QueueWait out;
  out.mean = utilization * service_mean * (1 + service_cv * service_cv) / (2 * (1 - utilization));
  out.p99 = utilization <= 0.01 ? 0 : out.mean / utilization * std::log(utilization / 0.01);
  return out;
}

ReplicaLatency replica_latency(const Placement& placement, const ReplicaLoad& load) {
  const Shared shared = balance(placement, load);
  ReplicaLatency out{.stable = shared.stable};
  if (!shared.stable) return out;
  const double context = load.prompt_tokens + load.output_tokens / 2;
  const QueueWait wait = mg1_wait(shared.prefill_share, shared.prefill, load.length_cv);
  const double own_spread = shared.prefill * (lognormal_p99(load.length_cv) - 1);
  out.first_token_mean = wait.mean + shared.prefill + shared.step / 2;
  out.first_token_p99 = shared.prefill + std::hypot(wait.p99, own_spread) + shared.step;
  out.sequences_mean = shared.sequences;
  out.sequences_p99 = std::max(1.0, shared.sequences + kZ99 * std::sqrt(shared.sequences));
  out.inter_token_mean = shared.step / (1 - shared.prefill_share);
  out.inter_token_p99 = decode_step_seconds(placement, out.sequences_p99, context);
  // Steps with a chunk among all steps that a sequence sees.
  const double chunks = std::ceil(load.prompt_tokens * (1 - load.prefix_hit_share) / load.chunk_tokens);
  if (load.requests_per_second * std::max(chunks, 1.0) * out.inter_token_mean > 0.01) {
    const double fresh = std::min(load.chunk_tokens, std::max(1.0, load.prompt_tokens * (1 - load.prefix_hit_share)));
    const Step mixed{.prefill_tokens = fresh,
                     .prefill_context = load.prompt_tokens / 2,
                     .decode_rows = out.sequences_p99,
                     .decode_context = context};
    out.inter_token_p99 = std::max(out.inter_token_p99, step_time(placement, mixed).seconds());
  }
  const double busy = shared.sequences > 0 ? std::min(1.0, shared.sequences) : 0;
  out.utilization = std::min(1.0, shared.prefill_share + (1 - shared.prefill_share) * busy);
  out.output_tokens_per_second = load.requests_per_second * load.output_tokens;
  return out;
}

}  // namespace hp::planner
