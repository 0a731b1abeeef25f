// The executor of the CPU: loads a checkpoint into packed weights and runs steps with a team of threads.
// Grouped-query and latent attention, dense layers and experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "arch/executor.h"
#include "base/result.h"
#include "comm/communicator.h"
#include "kernels/kernel_table.h"
#include "model/checkpoint.h"
#include "model/shard.h"

namespace hp {

struct CpuExecutorOptions {
  kernels::Isa isa = kernels::Isa::ref;
  int threads = 1;
  std::optional<DType> kv_dtype;  ///< f32, f16, bf16, i8 or f8_e4m3; empty: f32 on ref, f16 elsewhere
  std::int32_t blocks = 0;        ///< KV blocks; 0: as many as fit kv_bytes
  std::size_t kv_bytes = std::size_t{512} << 20;
  std::int32_t block_tokens = 16;
  std::int32_t max_step_tokens = 512;
  std::int32_t max_logit_rows = 64;
  bool predict = false;           ///< load the next-token-prediction layer, if the checkpoint has one, for draft()
  std::int32_t context = 0;       ///< most positions of a sequence; 0: the model's own
  RankOf rank;                    ///< of several that compute the model together: its part is loaded
  Communicator* ranks = nullptr;  ///< to the others, outlives the executor; needed when there are any
};

/// The checkpoint is read during the call only. Of several ranks every one runs the same steps, each in a thread of its
/// own, and every one gives all logits.
Result<std::unique_ptr<Executor>> make_cpu_executor(Checkpoint& checkpoint, const CpuExecutorOptions& options);

}  // namespace hp
