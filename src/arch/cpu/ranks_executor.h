// Several ranks on one machine's processors, each a CPU executor with its part of the model and threads of its own:
// tensor parallelism as GPUs will have it, and what a machine with several memory controllers can use.
#pragma once

#include <memory>

#include "arch/cpu/cpu_executor.h"

namespace hp {

/// One rank's share of threads and KV bytes; the way to the others is left out.
CpuExecutorOptions share_of(const CpuExecutorOptions& options, RankOf rank);

/// Threads and KV bytes are shared out among `world` ranks; options.rank and options.ranks are set here. Bits depend on
/// `world`, so the identity of device and weights names it. world 1: make_cpu_executor.
Result<std::unique_ptr<Executor>> make_ranks_executor(Checkpoint& checkpoint, const CpuExecutorOptions& options,
                                                      int world);

}  // namespace hp
