// The two benchmarks behind `homeport bench`: a model alone in this process, and streams against an address.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arch/executor.h"
#include "base/json.h"
#include "base/result.h"
#include "model/model_config.h"

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

// A shape. ---------------------------------------------------------------------------------------------------------
struct ShapePlan {
  std::string name;             ///< id of the planner's catalog, also without its "deepseek-"
  std::string weights = "fp8";  ///< bf16 or fp8
  std::int64_t layers = 0;      ///< the first ones only; 0: all
  bool batch_invariant = true;
};

/// The model's configuration, cut to its first layers when asked.
Result<ModelConfig> shape_config(const ShapePlan& plan);
/// On the GPU of `device` (auto, cuda or cuda:N), with random weights. kv_dtype: auto, bf16 or fp8; kv_bytes 0: what is
/// free; `sequences`: most that decode together.
Result<std::unique_ptr<Executor>> random_executor(const ShapePlan& plan, const std::string& device,
                                                  const std::string& kv_dtype, std::size_t kv_bytes,
                                                  std::int32_t sequences);

// Online. ----------------------------------------------------------------------------------------------------------
struct OnlinePlan {
  std::string url, model = "default", api_key;
  std::vector<std::int64_t> streams{1, 4, 16};
  std::int64_t prompt_tokens = 128, answer_tokens = 128;
  std::int64_t requests = 0;  ///< per number of streams; 0: two for each stream
  double rate = 0;            ///< requests per second at random times (Poisson) rather than one after the other; 0: off
  std::int64_t seed = 1;
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
