// Test program: runs token ids through an executor, one sequence per line of standard input. THREADS: 2, or 4x1
// for four ranks of one thread each. ISA: one of the CPU's, or cuda or cuda:fp8 for a GPU.
//   logits_tool MODEL ISA THREADS greedy N   prints the N greedy tokens that follow each line
//   logits_tool MODEL ISA THREADS score      prints, per position, "argmax:logprob of the line's next token"
//   logits_tool MODEL ISA THREADS dump P     prefills the first P tokens of each line, then feeds the rest one by one;
//                                            writes the logits after each of these steps as raw floats
//   logits_tool MODEL ISA THREADS predict P  the same steps, the line's own tokens taken as true; prints, per step,
//   what
//                                            the prediction layer guesses for the token after the next
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "arch/cpu/ranks_executor.h"
#include "arch/cuda/cuda_executor.h"
#include "arch/cuda/plugin.h"

namespace {

constexpr std::int32_t kContext = 512;

struct Sequence {
  std::vector<hp::TokenId> tokens;
  std::vector<hp::BlockId> blocks;
};

hp::TokenId argmax(std::span<const float> row) {
  return static_cast<hp::TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
}

double logprob(std::span<const float> row, hp::TokenId token) {
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float v : row) sum += std::exp(v - top);
  return row[static_cast<std::size_t>(token)] - top - std::log(sum);
}

hp::Status greedy(hp::Executor& executor, std::vector<Sequence>& all, int count) {
  std::vector<std::size_t> done(all.size(), 0);
  for (int i = 0; i < count; ++i) {
    std::vector<hp::SequenceStep> batch;
    for (std::size_t s = 0; s < all.size(); ++s) {
      batch.push_back({.tokens = std::span(all[s].tokens).subspan(done[s]),
                       .position = static_cast<std::int32_t>(done[s]),
                       .blocks = all[s].blocks,
                       .logit_rows = 1});
    }
    HP_TRY(const hp::StepLogits logits, executor.step(batch));
    for (std::size_t s = 0; s < all.size(); ++s) {
      done[s] = all[s].tokens.size();
      all[s].tokens.push_back(argmax(logits.row(static_cast<std::int32_t>(s))));
    }
  }
  for (const Sequence& s : all) fmt::print("{}\n", fmt::join(s.tokens.end() - count, s.tokens.end(), " "));
  return {};
}

hp::Status score(hp::Executor& executor, const std::vector<Sequence>& all) {
  for (const Sequence& s : all) {
    const auto count = static_cast<std::int32_t>(s.tokens.size());
    const hp::SequenceStep step{.tokens = s.tokens, .position = 0, .blocks = s.blocks, .logit_rows = count};
    HP_TRY(const hp::StepLogits logits, executor.step(std::span(&step, 1)));
    for (std::int32_t i = 0; i + 1 < count; ++i) {
      const auto row = logits.row(i);
      fmt::print("{}:{:.6f} ", argmax(row), logprob(row, s.tokens[static_cast<std::size_t>(i) + 1]));
    }
    fmt::print("\n");
  }
  return {};
}

hp::Status dump(hp::Executor& executor, const std::vector<Sequence>& all, std::size_t prefill) {
  for (const Sequence& s : all) {
    for (std::size_t at = 0; at < s.tokens.size();) {
      const std::size_t count = at == 0 ? std::clamp<std::size_t>(prefill, 1, s.tokens.size()) : 1;
      const hp::SequenceStep step{.tokens = std::span(s.tokens).subspan(at, count),
                                  .position = static_cast<std::int32_t>(at),
                                  .blocks = s.blocks,
                                  .logit_rows = 1};
      HP_TRY(const hp::StepLogits logits, executor.step(std::span(&step, 1)));
      if (std::fwrite(logits.values.data(), sizeof(float), logits.values.size(), stdout) != logits.values.size())
        return hp::fail(hp::ErrorCode::io_error, "standard output is closed");
      at += count;
    }
  }
  return {};
}

hp::Status predict(hp::Executor& executor, const std::vector<Sequence>& all, std::size_t prefill) {
  for (const Sequence& s : all) {
    for (std::size_t at = 0; at + 1 < s.tokens.size();) {
      const std::size_t count = at == 0 ? std::clamp<std::size_t>(prefill, 1, s.tokens.size() - 1) : 1;
      const auto tokens = std::span(s.tokens);
      hp::SequenceStep step{.tokens = tokens.subspan(at, count),
                            .position = static_cast<std::int32_t>(at),
                            .blocks = s.blocks,
                            .logit_rows = 1};
      if (auto ran = executor.step(std::span(&step, 1)); !ran) return hp::fail(std::move(ran).error());
      step.tokens = tokens.subspan(at + 1, count);
      const hp::DraftRequest request{.sequence = 0, .follow = step};
      fmt::print("{} ", executor.draft(std::span(&request, 1)).front());
      at += count;
    }
    fmt::print("\n");
  }
  return {};
}

/// "cuda" and "cuda:TYPE" are a GPU, with the layers' matrices in bf16 or in that type; all else is the CPU's kernels.
hp::Result<std::unique_ptr<hp::Executor>> open_executor(hp::Checkpoint& checkpoint, std::string_view isa_name,
                                                        const char* threads_word, std::optional<hp::DType> kv,
                                                        std::int32_t blocks) {
  constexpr std::int32_t kLogitRows = 128;
  if (isa_name.starts_with("cuda")) {
    HP_TRY(const hp::cuda::PluginApi* api, hp::cuda::load_plugin());
    const auto weights = hp::gpu_weights_from(isa_name == "cuda" ? "bf16" : isa_name.substr(isa_name.find(':') + 1));
    if (!weights)
      return hp::fail(hp::ErrorCode::invalid_argument, "'{}': cuda:TYPE is bf16, fp8, int8 or int4", isa_name);
    return hp::make_cuda_executor(checkpoint, {.weights = *weights, .max_logit_rows = kLogitRows, .context = kContext},
                                  *api);
  }
  HP_TRY(const hp::kernels::Isa isa, hp::kernels::choose_isa(std::string(isa_name)));
  const std::string_view threads = threads_word;
  const std::size_t x = threads.find('x');
  const int world = x == std::string_view::npos ? 1 : std::atoi(threads_word);
  const int each = std::atoi(threads_word + (x == std::string_view::npos ? 0 : x + 1));
  return hp::make_ranks_executor(checkpoint,
                                 {.isa = isa,
                                  .threads = world * each,
                                  .kv_dtype = kv,
                                  .blocks = blocks,
                                  .max_logit_rows = kLogitRows,
                                  .predict = true,
                                  .context = kContext},
                                 world);
}

hp::Status run(int argc, char** argv) {
  if (argc < 5)
    return hp::fail(hp::ErrorCode::invalid_argument,
                    "expected: MODEL ISA THREADS greedy N | score [KV] | dump P | predict P");
  HP_TRY(hp::Checkpoint checkpoint, hp::Checkpoint::open(argv[1]));
  const bool scores = std::string_view(argv[4]) == "score";
  const std::optional<hp::DType> kv = scores && argc > 5 ? hp::dtype_from_name(argv[5]) : std::nullopt;
  if (scores && argc > 5 && !kv) return hp::fail(hp::ErrorCode::invalid_argument, "no KV type '{}'", argv[5]);
  std::vector<Sequence> all;
  std::int32_t next = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    Sequence s{.tokens = {std::istream_iterator<hp::TokenId>(in), {}}, .blocks = {}};
    for (int i = 0; i < kContext / 16; ++i) s.blocks.push_back(hp::BlockId{next++});
    all.push_back(std::move(s));
  }
  HP_TRY(const auto executor, open_executor(checkpoint, argv[2], argv[3], kv, std::max(next, 1)));
  if (scores) return score(*executor, all);
  if (std::string_view(argv[4]) == "dump")
    return dump(*executor, all, argc > 5 ? static_cast<std::size_t>(std::max(std::atoi(argv[5]), 1)) : 1);
  if (std::string_view(argv[4]) == "predict")
    return predict(*executor, all, static_cast<std::size_t>(std::atoi(argc > 5 ? argv[5] : "1")));
  return greedy(*executor, all, argc > 5 ? std::atoi(argv[5]) : 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (const hp::Status status = run(argc, argv); !status) {
    fmt::print(stderr, "logits_tool: {}\n", status.error().message);
    return 1;
  }
  return 0;
}
