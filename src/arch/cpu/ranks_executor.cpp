#include "arch/cpu/ranks_executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "comm/local_ranks.h"

namespace hp {
namespace {

class RanksExecutor final : public Executor {
 public:
  RanksExecutor(std::vector<std::unique_ptr<Communicator>> links, std::vector<std::unique_ptr<Executor>> ranks,
                int threads)
      : links_(std::move(links)), ranks_(std::move(ranks)), team_(static_cast<int>(ranks_.size())) {
    info_ = ranks_.front()->info();
    const std::string device = info_.device.substr(0, info_.device.find(','));
    info_.device = fmt::format("{} tp{}, {} threads each", device, ranks_.size(), threads);
    info_.weights += fmt::format("-tp{}", ranks_.size());
    info_.block_bytes = 0;
    info_.memory = {};
    for (const auto& rank : ranks_) {
      const ExecutorInfo& i = rank->info();
      info_.blocks = std::min(info_.blocks, i.blocks);
      info_.block_bytes += i.block_bytes;
      info_.memory.weights += i.memory.weights;
      info_.memory.tables += i.memory.tables;
      info_.memory.step += i.memory.step;
      info_.memory.kv += i.memory.kv;
    }
  }

  [[nodiscard]] const ExecutorInfo& info() const override { return info_; }

  Result<StepLogits> step(std::span<const SequenceStep> batch) override {
    std::vector<Result<StepLogits>> results(ranks_.size());
    team_.run([&](int rank) {
      const auto at = static_cast<std::size_t>(rank);
      results[at] = ranks_[at]->step(batch);
      if (!results[at]) links_[at]->abort(results[at].error().message);
    });
    for (Result<StepLogits>& r : results)
      if (!r) return r;
    return results.front();
  }

  std::vector<TokenId> draft(std::span<const DraftRequest> requests) override {
    std::vector<std::vector<TokenId>> guesses(ranks_.size());
    team_.run([&](int rank) {
      const auto at = static_cast<std::size_t>(rank);
      guesses[at] = ranks_[at]->draft(requests);
    });
    return guesses.front();
  }

 private:
  std::vector<std::unique_ptr<Communicator>> links_;
  std::vector<std::unique_ptr<Executor>> ranks_;
  ParallelTeam team_;
  ExecutorInfo info_;
};

}  // namespace

CpuExecutorOptions share_of(const CpuExecutorOptions& options, RankOf rank) {
  CpuExecutorOptions own = options;
  own.rank = rank;
  own.threads = std::max(1, options.threads / rank.world);
  own.kv_bytes = options.kv_bytes / static_cast<std::size_t>(rank.world);
  return own;
}

Result<std::unique_ptr<Executor>> make_ranks_executor(Checkpoint& checkpoint, const CpuExecutorOptions& options,
                                                      int world) {
  if (world == 1) return make_cpu_executor(checkpoint, options);
  if (world < 1) return fail(ErrorCode::invalid_argument, "expected at least 1 rank, found {}", world);
  std::vector<std::unique_ptr<Communicator>> links = local_ranks(world);
  std::vector<std::unique_ptr<Executor>> ranks;
  for (int r = 0; r < world; ++r) {
    CpuExecutorOptions each = share_of(options, {.rank = r, .world = world});
    each.ranks = links[static_cast<std::size_t>(r)].get();
    HP_TRY(auto executor, make_cpu_executor(checkpoint, each));
    ranks.push_back(std::move(executor));
  }
  return std::make_unique<RanksExecutor>(std::move(links), std::move(ranks), share_of(options, {0, world}).threads);
}

}  // namespace hp
