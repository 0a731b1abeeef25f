#include <algorithm>
#include <chrono>
#include <limits>

#include "cli/bench.h"

namespace hp::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// Sequences of made-up tokens with KV blocks of their own.
struct Sequences {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<BlockId>> blocks;
};

Sequences make_sequences(const ExecutorInfo& info, std::int64_t count, std::int64_t length) {
  Sequences s;
  const std::int64_t each = (length + info.block_tokens - 1) / info.block_tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    std::vector<TokenId> tokens;
    std::vector<BlockId> blocks;
    for (std::int64_t t = 0; t < length; ++t)
      tokens.push_back(static_cast<TokenId>((t * 37 + i * 11 + 5) % info.vocab));
    for (std::int64_t b = 0; b < each; ++b) blocks.push_back(BlockId{static_cast<std::int32_t>(i * each + b)});
    s.tokens.push_back(std::move(tokens));
    s.blocks.push_back(std::move(blocks));
  }
  return s;
}

Status fits(const ExecutorInfo& info, const std::string& test, std::int64_t count, std::int64_t length) {
  if (length > info.context)
    return fail(ErrorCode::invalid_argument, "{}: {} positions, the model's context is {}", test, length, info.context);
  const std::int64_t blocks = count * ((length + info.block_tokens - 1) / info.block_tokens);
  if (blocks > info.blocks)
    return fail(ErrorCode::resource_exhausted, "{}: wants {} KV blocks of {} tokens, there are {}", test, blocks,
                info.block_tokens, info.blocks);
  return {};
}

/// Runs tokens [begin, end) of the sequence in chunks of a step.
Status prefill(Executor& executor, const Sequences& s, std::size_t index, std::int64_t begin, std::int64_t end) {
  const std::int64_t chunk = executor.info().max_step_tokens;
  for (std::int64_t at = begin; at < end; at += chunk) {
    const std::int64_t count = std::min(chunk, end - at);
    const SequenceStep step{
        .tokens = std::span(s.tokens[index]).subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count)),
        .position = static_cast<std::int32_t>(at),
        .blocks = s.blocks[index],
        .logit_rows = at + count == end ? 1 : 0};
    HP_TRY_VOID(executor.step({&step, 1}));
  }
  return {};
}

Status decode_step(Executor& executor, const Sequences& s, std::int64_t position) {
  std::vector<SequenceStep> batch;
  for (std::size_t i = 0; i < s.tokens.size(); ++i) {
    batch.push_back({.tokens = std::span(s.tokens[i]).subspan(static_cast<std::size_t>(position), 1),
                     .position = static_cast<std::int32_t>(position),
                     .blocks = s.blocks[i],
                     .logit_rows = 1});
  }
  HP_TRY_VOID(executor.step(batch));
  return {};
}

Result<OfflineRow> bench_prefill(Executor& executor, std::int64_t tokens, std::int64_t repeats) {
  OfflineRow row{.test = "prefill " + std::to_string(tokens), .prefill = true, .size = tokens};
  HP_TRY_VOID(fits(executor.info(), row.test, 1, tokens));
  const Sequences s = make_sequences(executor.info(), 1, tokens);
  for (std::int64_t i = 0; i <= repeats; ++i) {  // the first warms up
    const auto start = Clock::now();
    HP_TRY_VOID(prefill(executor, s, 0, 0, tokens));
    const std::chrono::duration<double> spent = Clock::now() - start;
    if (i > 0) row.tokens_per_second.push_back(static_cast<double>(tokens) / spent.count());
  }
  return row;
}

Result<OfflineRow> bench_decode(Executor& executor, std::int64_t batch, const OfflinePlan& plan) {
  OfflineRow row{.test = "decode " + std::to_string(batch), .size = batch, .context = plan.context + plan.steps / 2};
  if (batch > executor.info().max_logit_rows)
    return fail(ErrorCode::invalid_argument, "{}: {} sequences a step, at most {} are; raise --max-running", row.test,
                batch, executor.info().max_logit_rows);
  const std::int64_t length = plan.context + plan.steps;
  HP_TRY_VOID(fits(executor.info(), row.test, batch, length));
  const Sequences s = make_sequences(executor.info(), batch, length);
  for (std::size_t i = 0; i < s.tokens.size(); ++i) HP_TRY_VOID(prefill(executor, s, i, 0, plan.context));
  for (std::int64_t i = 0; i <= plan.repeats; ++i) {
    const auto start = Clock::now();
    for (std::int64_t step = 0; step < plan.steps; ++step) HP_TRY_VOID(decode_step(executor, s, plan.context + step));
    const std::chrono::duration<double> spent = Clock::now() - start;
    if (i > 0) row.tokens_per_second.push_back(static_cast<double>(batch * plan.steps) / spent.count());
  }
  return row;
}

}  // namespace

double percentile(std::vector<double> values, double q) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto at = static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

Result<std::vector<OfflineRow>> bench_offline(Executor& executor, const OfflinePlan& plan) {
  std::vector<OfflineRow> rows;
  for (const std::int64_t tokens : plan.prefills) {
    HP_TRY(OfflineRow row, bench_prefill(executor, tokens, plan.repeats));
    rows.push_back(std::move(row));
  }
  for (const std::int64_t batch : plan.batches) {
    HP_TRY(OfflineRow row, bench_decode(executor, batch, plan));
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace hp::cli
