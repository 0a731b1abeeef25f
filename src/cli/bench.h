// The two benchmarks behind `homeport bench`: a model alone in this process, and streams against an address.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arch/executor.h"
#include "base/json.h"
#include "base/result.h"

namespace hp::cli {

/// Values in any order; q in [0, 1]. NaN without values.
double percentile(std::vector<double> values, double q);

// Offline. ---------------------------------------------------------------------------------------------------------
struct OfflinePlan {
  std::vector<std::int64_t> prefills{512}, batches{1, 16};
  std::int64_t context = 128, steps = 32, repeats = 5;
};

struct OfflineRow {
  std::string test;  ///< "prefill 512", "decode 16"
  bool prefill = false;
  std::int64_t size = 0;                  ///< prompt tokens, or sequences decoded together
  std::int64_t context = 0;               ///< mean tokens of context
  std::vector<double> tokens_per_second;  ///< [repeats]
};

/// An error names the size that does not fit the executor.
Result<std::vector<OfflineRow>> bench_offline(Executor& executor, const OfflinePlan& plan);

// Online. ----------------------------------------------------------------------------------------------------------
struct OnlinePlan {
  std::string url, model = "default", api_key;
  std::vector<std::int64_t> streams{1, 4, 16};
  std::int64_t prompt_tokens = 128, answer_tokens = 128;
  std::int64_t requests = 0;  ///< per number of streams; 0: two for each stream
  double rate = 0;            ///< requests per second at random times (Poisson) rather than one after the other; 0: off
  std::uint64_t seed = 1;
};

struct OnlineRow {
  std::int64_t streams = 0, finished = 0, failed = 0, answer_tokens = 0;
  double seconds = 0;
  std::vector<double> first_token_s, between_tokens_s;
  std::string first_error;  ///< of the first request that failed
};

/// Streams of /v1/completions with prompts of token ids. An error when the address does not answer at all.
Result<OnlineRow> bench_online(const OnlinePlan& plan, std::int64_t streams);

}  // namespace hp::cli
