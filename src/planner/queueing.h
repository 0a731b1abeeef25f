// From the time of a step to what a user feels at the 99th percentile.
//
// First token: every replica is an M/G/1 queue of prefills (Poisson arrivals, log-normal lengths, first come first
// served). Mean wait by Pollaczek-Khinchine; its tail is taken as exponential, P(W > t) = rho exp(-rho t / E[W]); the
// wait and the prompt's own spread add as independent deviations. Decodes share the machine: a prefill is cut into
// chunks and every chunk's step carries the running sequences too. Between tokens: the step at the 99th percentile of
// the number of running sequences (Poisson), with a chunk in it when more than one step in a hundred has one.
#pragma once

#include <functional>

#include "planner/roofline.h"

namespace hp::planner {

struct ReplicaLoad {
  double requests_per_second = 0;
  double prompt_tokens = 1000, output_tokens = 300;
  double prefix_hit_share = 0;
  double length_cv = 0.5;     ///< standard deviation over mean of prompt lengths
  double chunk_tokens = 512;  ///< of a prefill within one step
};

struct ReplicaLatency {
  bool stable = false;
  double first_token_mean = 0, first_token_p99 = 0;
  double inter_token_mean = 0, inter_token_p99 = 0;
  double utilization = 0;  ///< share of time that the replica is busy
  double sequences_mean = 0, sequences_p99 = 0;
  double output_tokens_per_second = 0;
};

ReplicaLatency replica_latency(const Placement& placement, const ReplicaLoad& load);

/// Waiting time in an M/G/1 queue: mean, and the 99th percentile by the exponential tail.
struct QueueWait {
  double mean = 0, p99 = 0;
};
/// `utilization` below 1; `service_cv` is the service time's standard deviation over its mean.
QueueWait mg1_wait(double utilization, double service_mean, double service_cv);
/// The quantile 0.99 of a log-normal value over its mean.
double lognormal_p99(double cv);

}  // namespace hp::planner
