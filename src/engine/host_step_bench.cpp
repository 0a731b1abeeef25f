// The host's part of a step: the engine over a GPU whose work takes no time (tests/tools/fake_gpu.cpp). What is left is
// scheduling, block tables, the call, draws that came back, events.
//   engine_bench   prints microseconds of one step at 1, 64 and 256 decoding streams
#include <benchmark/benchmark.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <utility>

#include "arch/cuda/cuda_executor.h"
#include "arch/cuda/plugin.h"
#include "engine/engine.h"

namespace hp {
namespace {

constexpr std::int32_t kPrompt = 32, kAnswer = 192;  // 256 streams fill the fake's 4,096 blocks of 16 to seven eighths

/// Holds the engine at its first step until everything has been submitted, so that all streams run side by side. Reads
/// the processor time of the engine's thread: a busy machine does not change it much.
struct Gate final : EventSink {
  std::atomic<bool> open{true}, reached{false};
  std::atomic<std::int64_t> ended{0};
  std::int64_t steps = 0;  ///< since the gate opened
  std::chrono::nanoseconds begun{}, used{};
  void on_step(std::vector<TokenEvent> events) override {
    if (!open) {
      reached = true;
      reached.notify_all();
      open.wait(false);
      steps = 0;
      begun = thread_time();
    } else {
      ++steps;
      used = thread_time() - begun;
    }
    std::int64_t more = 0;
    for (const TokenEvent& e : events) more += e.finish.has_value() ? 1 : 0;
    if (more == 0) return;
    ended += more;
    ended.notify_all();
  }
  static std::chrono::nanoseconds thread_time() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
  }
};

Result<std::unique_ptr<Executor>> fake_device() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  HP_TRY(const cuda::PluginApi* api, cuda::load_plugin(program / "fake_gpu" / "libhomeport_cuda.so"));
  ModelConfig config;
  config.name = "8B's shape";
  config.layers = 32, config.hidden = 4096, config.ffn = 14336, config.vocab = 128256, config.context = 8192;
  config.heads = 32, config.kv_heads = 8, config.head_dim = config.v_head_dim = 128;
  config.rope.dims = 128;
  return make_random_cuda_executor(config, {}, *api);
}

EngineRequest request(std::int64_t id, bool sampled) {
  EngineRequest r;
  r.id = RequestId{static_cast<std::uint64_t>(id)};
  for (std::int32_t i = 0; i < kPrompt; ++i) r.prompt.push_back(1000 + static_cast<TokenId>((id * 37 + i * 11) % 500));
  r.max_tokens = kAnswer;
  r.sampling.temperature = sampled ? 0.7F : 0.0F;
  r.sampling.top_p = 0.95F;
  return r;
}

/// Whole answers of `streams` streams that run side by side; the prompts' steps are counted too.
void host_step(benchmark::State& state, bool sampled) {
  const std::int64_t streams = state.range(0);
  auto device = fake_device();
  if (!device) {
    state.SkipWithError(device.error().message.c_str());
    return;
  }
  const SteadyClock clock;
  Gate gate;
  Engine engine(*std::move(device), gate, {.max_step_tokens = 2048}, clock);
  std::int64_t next = 0, steps = 0;
  double seconds = 0;
  for (auto _ : state) {
    const std::int64_t target = gate.ended + streams;
    gate.open = gate.reached = false;
    for (std::int64_t i = 0; i < streams; ++i)
      if (!engine.submit(request(next++, sampled))) state.SkipWithError("refused");
    gate.reached.wait(false);
    gate.open = true;
    gate.open.notify_all();
    for (std::int64_t ended = gate.ended; ended < target; ended = gate.ended) gate.ended.wait(ended);
    const double took = std::chrono::duration<double>(gate.used).count();
    state.SetIterationTime(took);
    seconds += took;
    steps += gate.steps;
  }
  state.counters["us_per_step"] = seconds / static_cast<double>(steps) * 1e6;
}

BENCHMARK_CAPTURE(host_step, greedy, false)->Arg(1)->Arg(64)->Arg(256)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(host_step, sampled, true)->Arg(1)->Arg(64)->Arg(256)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace hp

BENCHMARK_MAIN();
