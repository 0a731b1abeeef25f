// A model without weights: logits are a pure hash of a sequence's tokens up to a position. It stores the tokens in its
// own KV blocks and reads them back, so that a wrong block table, an early release or a wrong position changes the
// output. Never linked into the product.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "arch/executor.h"
#include "base/clock.h"

namespace hp {

struct FakeExecutorOptions {
  std::int32_t vocab = 97, context = 512, block_tokens = 4, blocks = 64, max_step_tokens = 256, max_logit_rows = 64;
  std::function<Duration(std::span<const SequenceStep>)> latency = {};  ///< real time that a step takes
  bool finds_best = false;           ///< like a GPU: no logits come when only the largest or a draw is wanted
  std::int64_t fail_from_step = -1;  ///< steps from this one on report a lost device
  /// What every sequence says after the last place where `script_after` stands in it; empty: hashed logits.
  std::vector<TokenId> script_after = {}, script = {};
};

class FakeExecutor final : public Executor {
 public:
  explicit FakeExecutor(FakeExecutorOptions options);
  [[nodiscard]] const ExecutorInfo& info() const override { return info_; }
  Result<StepLogits> step(std::span<const SequenceStep> batch) override;

  /// The logits that any correct engine must see after `tokens`.
  static std::vector<float> logits_after(std::span<const TokenId> tokens, std::int32_t vocab);

 private:
  Status write(const SequenceStep& s);
  void draw(std::span<const SequenceStep> batch);
  [[nodiscard]] std::vector<float> logits_for(std::span<const TokenId> tokens) const;
  [[nodiscard]] std::size_t slot(const SequenceStep& s, std::int32_t position) const;
  FakeExecutorOptions options_;
  ExecutorInfo info_;
  std::vector<TokenId> kv_;  ///< [blocks, block_tokens]
  std::vector<float> logits_;
  std::vector<TokenId> best_;
  std::int64_t steps_ = 0, drawn_ = 0;
};

}  // namespace hp
