// Speed of the CPU executor alone, without engine or text:
//   arch_bench MODEL [isa=auto] [threads=2] [prefill=512] [decode=32] [streams=16] [reps=3]
// Prints medians: prefill of one prompt, decode of one sequence after it, decode of many sequences together.
//   arch_bench MODEL worker=1 [...]  answers every line prefill:N or decode:N of standard input with tokens per second;
// decode is N sequences after 128 tokens each, `decode` steps. For bench/cpu_table.py, which alternates with a peer.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "arch/cpu/cpu_executor.h"

namespace {

using hp::SequenceStep;
using Seconds = std::chrono::duration<double>;

struct Settings {
  std::string model, isa = "auto", kv;
  int threads = 2, prefill = 512, decode = 32, streams = 16, reps = 3, chunk = 512, worker = 0;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0.0 : v[v.size() / 2];
}

struct Streams {
  std::vector<std::vector<hp::BlockId>> blocks;
  std::vector<std::vector<hp::TokenId>> tokens;
};

Streams make_streams(int count, int length, int vocab) {
  Streams s;
  const int blocks_each = (length + 15) / 16;
  for (int i = 0; i < count; ++i) {
    std::vector<hp::BlockId> blocks;
    for (int b = 0; b < blocks_each; ++b) blocks.push_back(hp::BlockId{i * blocks_each + b});
    std::vector<hp::TokenId> tokens;
    for (int t = 0; t < length; ++t) tokens.push_back(static_cast<hp::TokenId>((t * 37 + i * 11 + 5) % vocab));
    s.blocks.push_back(std::move(blocks));
    s.tokens.push_back(std::move(tokens));
  }
  return s;
}

/// Runs tokens [begin, end) of every stream as one step; seconds.
double step(hp::Executor& executor, const Streams& s, int begin, int end, bool logits) {
  std::vector<SequenceStep> batch;
  for (std::size_t i = 0; i < s.tokens.size(); ++i) {
    batch.push_back(
        {.tokens =
             std::span(s.tokens[i]).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
         .position = begin,
         .blocks = s.blocks[i],
         .logit_rows = logits ? 1 : 0});
  }
  const auto start = std::chrono::steady_clock::now();
  const auto done = executor.step(batch);
  if (!done) {
    fmt::print(stderr, "{}\n", done.error().message);
    std::exit(1);
  }
  return Seconds(std::chrono::steady_clock::now() - start).count();
}

double prefill(hp::Executor& executor, const Streams& s, int length, int chunk) {
  double seconds = 0;
  for (int at = 0; at < length; at += chunk) {
    const int end = std::min(length, at + chunk);
    seconds += step(executor, s, at, end, end == length);
  }
  return seconds;
}

double decode(hp::Executor& executor, const Streams& s, int from, int count) {
  double seconds = 0;
  for (int i = 0; i < count; ++i) seconds += step(executor, s, from + i, from + i + 1, true);
  return seconds;
}

hp::Result<std::unique_ptr<hp::Executor>> open(const Settings& o) {
  HP_TRY(const hp::kernels::Isa isa, hp::kernels::choose_isa(o.isa));
  HP_TRY(hp::Checkpoint checkpoint, hp::Checkpoint::open(o.model));
  const int length = o.prefill + o.decode;
  const int many = o.streams * ((128 + o.decode + 15) / 16);
  hp::CpuExecutorOptions options;
  options.isa = isa;
  options.threads = o.threads;
  options.blocks = std::max((length + 15) / 16, many);
  options.max_step_tokens = std::max(o.chunk, o.streams);
  options.max_logit_rows = std::max(1, o.streams);
  if (!o.kv.empty()) options.kv_dtype = hp::dtype_from_name(o.kv);
  return hp::make_cpu_executor(checkpoint, options);
}

void run(hp::Executor& executor, const Settings& o) {
  const Streams one = make_streams(1, o.prefill + o.decode, executor.info().vocab);
  const Streams many = make_streams(o.streams, 128 + o.decode, executor.info().vocab);
  std::vector<double> pp, tg, batch;
  for (int i = 0; i < o.reps; ++i) {
    if (o.prefill > 0) pp.push_back(o.prefill / prefill(executor, one, o.prefill, o.chunk));
    if (o.decode > 0) tg.push_back(o.decode / decode(executor, one, o.prefill, o.decode));
    if (o.streams > 1 && o.decode > 0) {
      prefill(executor, many, 128, o.chunk / o.streams);
      batch.push_back(o.decode * o.streams / decode(executor, many, 128, o.decode));
    }
  }
  fmt::print("{} | prefill {} {:.1f} tok/s | decode {:.1f} tok/s | {} streams {:.1f} tok/s\n", executor.info().device,
             o.prefill, median(pp), median(tg), o.streams, median(batch));
}

/// One test of the worker: tokens per second. Prompts stay from one round of a test to the next.
double answer(hp::Executor& executor, const Settings& o, const std::string& test, const std::string& last) {
  constexpr int kDepth = 128;
  const bool is_prefill = test.rfind("prefill:", 0) == 0;
  const int size = std::atoi(test.c_str() + test.find(':') + 1);
  if (is_prefill) {
    const Streams one = make_streams(1, size, executor.info().vocab);
    return size / prefill(executor, one, size, o.chunk);
  }
  const Streams many = make_streams(size, kDepth + o.decode, executor.info().vocab);
  if (test != last) prefill(executor, many, kDepth, std::max(1, o.chunk / size));
  return o.decode * size / decode(executor, many, kDepth, o.decode);
}

void serve(hp::Executor& executor, const Settings& o) {
  std::string last;
  for (std::string line; std::getline(std::cin, line);) {
    fmt::print("{:.3f}\n", answer(executor, o, line, last));
    last = line;
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Settings o;
  std::map<std::string, int*> numbers = {{"threads", &o.threads}, {"prefill", &o.prefill}, {"decode", &o.decode},
                                         {"streams", &o.streams}, {"reps", &o.reps},       {"chunk", &o.chunk},
                                         {"worker", &o.worker}};
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const std::size_t eq = a.find('=');
    const std::string key = a.substr(0, eq);
    if (eq == std::string::npos) {
      o.model = a;
    } else if (numbers.count(key) != 0) {
      *numbers[key] = std::atoi(a.c_str() + eq + 1);
    } else {
      (key == "kv" ? o.kv : o.isa) = a.substr(eq + 1);
    }
  }
  const auto start = std::chrono::steady_clock::now();
  auto executor = open(o);
  if (!executor) {
    fmt::print(stderr, "{}\n", executor.error().message);
    return 1;
  }
  fmt::print("ready in {:.2f} s{}", Seconds(std::chrono::steady_clock::now() - start).count(),
             o.worker != 0 ? "\n" : "; ");
  std::fflush(stdout);
  if (o.worker != 0) {
    serve(**executor, o);
    return 0;
  }
  run(**executor, o);
  return 0;
}
