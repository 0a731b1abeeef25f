// Causal attention over the rows of some windows, every window for itself, with keys and values written out: what
// calibration multiplies is what is stored, so latent attention is not absorbed here.
#pragma once

#include <cstddef>
#include <span>

#include "arch/cpu/spilled_rows.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"

namespace hp {

struct AttentionShape {
  std::int32_t heads = 0, kv_heads = 0, head_dim = 0, v_dim = 0;
  float scale = 1.0F;
};

/// q [rows, heads · head_dim], k [rows, kv_heads · head_dim], v [rows, kv_heads · v_dim] -> out [rows, heads · v_dim].
Status attend_windows(const AttentionShape& shape, std::span<const std::size_t> windows, const SpilledRows& q,
                      const SpilledRows& k, const SpilledRows& v, SpilledRows& out, const kernels::KernelTable& table,
                      ParallelTeam& team);

}  // namespace hp
