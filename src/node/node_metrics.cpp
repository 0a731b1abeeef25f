#include "node/node_metrics.h"

#include <algorithm>
#include <array>

#include "node/limits.h"

namespace hp {
namespace {

// The buckets that vLLM uses: a dashboard made for it shows the same curves here.
constexpr std::array kFirstTokenBuckets{.001, .005, .01, .02, .04, .06, .08, .1,  .25,  .5,   .75,
                                        1.0,  2.5,  5.0, 7.5, 10., 20., 40., 80., 160., 640., 2560.};
constexpr std::array kPerTokenBuckets{.01, .025, .05, .075, .1,  .15, .2,  .3,  .4, .5,
                                      .75, 1.0,  2.5, 5.0,  7.5, 10., 20., 40., 80.};
constexpr std::array kRequestBuckets{.3,  .5,  .8,  1.0, 1.5,  2.0,  2.5,  5.0,  10.,   15.,  20.,
                                     30., 40., 50., 60., 120., 240., 480., 960., 1920., 7680.};
constexpr std::array kIterationBuckets{1., 8., 16., 32., 64., 128., 256., 512., 1024., 2048., 4096., 8192., 16384.};

}  // namespace

NodeMetrics::NodeMetrics(MetricsRegistry& r, const std::string& model, const Engine& engine)
    : registry_(r),
      engine_(engine),
      labels_{{"model_name", model}, {"engine", "0"}},
      ttft_(r.histogram("vllm:time_to_first_token_seconds", "From arrival to the first token", kFirstTokenBuckets,
                        labels_)),
      inter_token_(
          r.histogram("vllm:inter_token_latency_seconds", "Between two tokens of a choice", kPerTokenBuckets, labels_)),
      per_token_(r.histogram("vllm:request_time_per_output_token_seconds", "Mean time per token after the first",
                             kPerTokenBuckets, labels_)),
      end_to_end_(r.histogram("vllm:e2e_request_latency_seconds", "From arrival to the end", kRequestBuckets, labels_)),
      queue_(r.histogram("vllm:request_queue_time_seconds", "Waiting for the first step", kRequestBuckets, labels_)),
      inference_(r.histogram("vllm:request_inference_time_seconds", "From the first step to the end", kRequestBuckets,
                             labels_)),
      prefill_(r.histogram("vllm:request_prefill_time_seconds", "From the first step to the first token",
                           kRequestBuckets, labels_)),
      decode_(
          r.histogram("vllm:request_decode_time_seconds", "From the first token to the end", kRequestBuckets, labels_)),
      iteration_(r.histogram("vllm:iteration_tokens_total",
                             "Tokens of a step (the mean of the steps between two readings of this page)",
                             kIterationBuckets, labels_)),
      disconnects_(
          r.counter("homeport_client_disconnects_total", "Clients that left before their answer was complete")),
      slow_readers_(r.counter("homeport_slow_readers_total", "Streams cut because the client did not read")),
      resumed_(r.counter("homeport_resumed_requests_total", "Requests that another node had begun")) {
  for (const std::string_view reason : {"stop", "length", "abort", "error"})
    r.counter("vllm:request_success_total", "Ended requests by reason",
              {{"model_name", model}, {"engine", "0"}, {"finished_reason", std::string(reason)}});
  for (const std::string_view reason : {"queue_full", "draining", "loading", "busy"})
    r.counter("homeport_rejected_requests_total", "Requests turned away", {{"reason", std::string(reason)}});
  add_gauges(engine);
  refresh();
}

void NodeMetrics::add_gauges(const Engine& engine) {
  const Engine* e = &engine;
  MetricsRegistry& r = registry_;
  const auto usage = [e] {
    const EngineStats s = e->stats();
    return s.blocks_total == 0 ? 0.0 : static_cast<double>(s.blocks_used) / static_cast<double>(s.blocks_total);
  };
  const auto running = [e] { return static_cast<double>(e->stats().running); };
  const auto waiting = [e] { return static_cast<double>(e->stats().waiting); };
  r.gauge_callback("vllm:num_requests_running", "Sequences being generated", labels_, running);
  r.gauge_callback("vllm:num_requests_waiting", "Sequences waiting for their turn", labels_, waiting);
  r.gauge_callback("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1", labels_, usage);
  const ExecutorInfo& info = engine.info();
  r.gauge("vllm:cache_config_info", "KV blocks",
          {{"model_name", labels_.front().second},
           {"engine", "0"},
           {"block_size", std::to_string(info.block_tokens)},
           {"num_gpu_blocks", std::to_string(info.blocks)}})
      .set(1);
  r.gauge_callback("homeport_sequences_running", "Sequences being generated", {}, running);
  r.gauge_callback("homeport_sequences_waiting", "Sequences waiting for their turn", {}, waiting);
  r.gauge_callback("homeport_prompt_tokens_waiting", "Prompt tokens not yet computed", {},
                   [e] { return static_cast<double>(e->stats().waiting_tokens); });
  r.gauge_callback("homeport_kv_blocks_used", "KV blocks held by sequences", {},
                   [e] { return static_cast<double>(e->stats().blocks_used); });
  r.gauge_callback("homeport_kv_blocks_cached", "KV blocks kept for their prefix only", {},
                   [e] { return static_cast<double>(e->stats().blocks_cached); });
  r.gauge_callback("homeport_max_step_tokens", "Tokens of one step, as they are limited now", {},
                   [e] { return static_cast<double>(e->limits().max_step_tokens); });
  r.gauge_callback("homeport_max_running", "Sequences at once, as they are limited now", {},
                   [e] { return static_cast<double>(e->limits().max_running); });
  r.gauge("homeport_kv_blocks", "KV blocks in all").set(static_cast<double>(info.blocks));
  r.gauge("homeport_kv_block_bytes", "Bytes of a KV block").set(static_cast<double>(info.block_bytes));
  r.gauge("homeport_build_info", "The device and weights behind this node",
          {{"device", info.device}, {"weights", info.weights}})
      .set(1);
}

void NodeMetrics::refresh() {
  const std::lock_guard lock(mutex_);
  const EngineStats s = engine_.stats();
  const auto count = [&](std::string_view name, std::string_view help, const Labels& labels, std::uint64_t now,
                         std::uint64_t before) {
    registry_.counter(name, help, labels).add(static_cast<double>(now - before));
  };
  count("vllm:prompt_tokens_total", "Prompt tokens computed", labels_, s.prompt_tokens, seen_.prompt_tokens);
  count("vllm:generation_tokens_total", "Tokens generated", labels_, s.generated_tokens, seen_.generated_tokens);
  count("vllm:num_preemptions_total", "Sequences put back for want of KV", labels_, s.preemptions, seen_.preemptions);
  count("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache", labels_, s.prefix_queries,
        seen_.prefix_queries);
  count("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache", labels_, s.prefix_hits,
        seen_.prefix_hits);
  count("homeport_step_tokens_total", "Tokens run through the model: the progress heartbeat", {}, s.step_tokens,
        seen_.step_tokens);
  count("homeport_draft_tokens_total", "Tokens guessed ahead", {}, s.draft_tokens, seen_.draft_tokens);
  count("homeport_draft_tokens_accepted_total", "Guessed tokens that were right", {}, s.draft_accepted,
        seen_.draft_accepted);
  count("homeport_failed_steps_total", "Steps that the device did not finish", {}, s.failed_steps, seen_.failed_steps);
  count("homeport_steps_total", "Steps of the model", {}, s.steps, seen_.steps);
  const std::uint64_t steps = s.steps - seen_.steps;
  const double mean =
      steps == 0 ? 0.0 : static_cast<double>(s.step_tokens - seen_.step_tokens) / static_cast<double>(steps);
  for (std::uint64_t i = 0; i < steps; ++i) iteration_.observe(mean);
  seen_ = s;
}

void NodeMetrics::request_ended(const RequestRecord& q) {
  registry_
      .counter("vllm:request_success_total", "Ended requests by reason",
               {labels_[0], labels_[1], {"finished_reason", std::string(q.finished_reason)}})
      .add();
  end_to_end_.observe(to_seconds(q.end_to_end));
  if (q.first_token == Duration{}) return;
  const Duration decode = q.end_to_end - q.first_token;
  queue_.observe(to_seconds(q.queued));
  inference_.observe(to_seconds(q.end_to_end - q.queued));
  prefill_.observe(to_seconds(q.first_token - q.queued));
  decode_.observe(to_seconds(decode));
  if (q.generated_tokens > 1) per_token_.observe(to_seconds(decode) / static_cast<double>(q.generated_tokens - 1));
}

void NodeMetrics::rejected(std::string_view reason) {
  registry_.counter("homeport_rejected_requests_total", "Requests turned away", {{"reason", std::string(reason)}})
      .add();
}

}  // namespace hp
