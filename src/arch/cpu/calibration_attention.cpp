#include "arch/cpu/calibration_attention.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "tensor/buffer.h"

namespace hp {
namespace {

constexpr std::int32_t kTile = 16;  // queries, and tokens of a block

}  // namespace

Status attend_windows(const AttentionShape& shape, std::span<const std::size_t> windows, const SpilledRows& q,
                      const SpilledRows& k, const SpilledRows& v, SpilledRows& out, const kernels::KernelTable& table,
                      ParallelTeam& team) {
  kernels::AttentionArgs widest;
  const auto longest =
      static_cast<std::int32_t>(windows.empty() ? 0 : *std::max_element(windows.begin(), windows.end()));
  const std::int32_t blocks = (longest + kTile - 1) / kTile;
  widest.kv = {.dtype = DType::f32,
               .block_tokens = kTile,
               .kv_heads = shape.kv_heads,
               .head_dim = shape.head_dim,
               .v_dim = shape.v_dim};
  widest.kv.block_stride =
      sizeof(float) * static_cast<std::size_t>(kTile * shape.kv_heads * (shape.head_dim + shape.v_dim));
  HP_TRY(Buffer kv, Buffer::allocate(widest.kv.block_stride * static_cast<std::size_t>(blocks)));
  widest.kv.base = kv.data();
  std::vector<std::int32_t> table_of_blocks(static_cast<std::size_t>(blocks));
  std::iota(table_of_blocks.begin(), table_of_blocks.end(), 0);
  widest.blocks = table_of_blocks.data();
  widest.heads = shape.heads;
  widest.scale = shape.scale;
  widest.q_stride = q.width();
  widest.out_stride = out.width();
  widest.tokens = std::min(kTile, longest);
  widest.position = std::max(0, longest - kTile);
  widest.split_end = (longest + kernels::kKvSplitTokens - 1) / kernels::kKvSplitTokens;
  const std::size_t room = (table.attention_scratch_floats(widest) + 15) / 16 * 16;
  HP_TRY(Buffer scratch, Buffer::allocate(room * static_cast<std::size_t>(team.size()) * sizeof(float)));
  std::size_t first = 0;
  for (const std::size_t length : windows) {
    const auto tokens = static_cast<std::int32_t>(length);
    team.run([&](int member) {
      const Range own = split_range(static_cast<std::size_t>(shape.kv_heads), member, team.size());
      table.kv_write({.kv = widest.kv,
                      .blocks = widest.blocks,
                      .position = 0,
                      .tokens = tokens,
                      .k = k.row(first),
                      .v = v.row(first),
                      .k_stride = k.width(),
                      .v_stride = v.width(),
                      .head_begin = static_cast<std::int32_t>(own.begin),
                      .head_end = static_cast<std::int32_t>(own.end)});
      team.barrier();
      const std::int32_t tiles = (tokens + kTile - 1) / kTile;
      for (std::int32_t item = member; item < tiles * shape.kv_heads; item += team.size()) {
        kernels::AttentionArgs args = widest;
        args.position = item / shape.kv_heads * kTile;
        args.tokens = std::min(kTile, tokens - args.position);
        args.kv_head = item % shape.kv_heads;
        args.split_end = (args.position + args.tokens + kernels::kKvSplitTokens - 1) / kernels::kKvSplitTokens;
        args.q = q.row(first + static_cast<std::size_t>(args.position));
        args.out = out.row(first + static_cast<std::size_t>(args.position));
        args.scratch = scratch.as<float>().data() + room * static_cast<std::size_t>(member);
        table.attention(args);
      }
    });
    first += length;
    q.release();
    k.release();
    v.release();
    out.release();
  }
  return {};
}

}  // namespace hp
