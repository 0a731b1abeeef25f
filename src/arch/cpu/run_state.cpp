#include "arch/cpu/run_state.h"

#include <algorithm>

namespace hp {
namespace {

constexpr std::size_t kAlignment = 64;

// Hands out aligned pieces of one buffer; with a null base it only counts.
struct Carver {
  std::byte* base = nullptr;
  std::size_t used = 0;

  template <typename T>
  void take(T*& out, std::size_t count) {
    out = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }
};

void carve(const ModelConfig& c, const RunStateSizes& sizes, Carver& carver, RunState& s) {
  const auto count = [](std::int32_t rows, std::int32_t width) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
  };
  const std::int32_t rows = sizes.rows;
  const std::int32_t hidden_rows = std::max(rows, sizes.logit_rows);
  const std::int32_t widest = std::max({c.hidden, c.heads * c.v_head_dim, c.ffn});
  const std::int32_t groups = (widest + kernels::kQuantGroup - 1) / kernels::kQuantGroup;
  carver.take(s.x, count(rows, c.hidden));
  carver.take(s.normed, count(hidden_rows, c.hidden));
  carver.take(s.q, count(rows, c.heads * c.head_dim));
  carver.take(s.k, count(rows, c.kv_heads * c.head_dim));
  carver.take(s.v, count(rows, c.kv_heads * c.v_head_dim));
  carver.take(s.attended, count(rows, c.heads * c.v_head_dim));
  carver.take(s.gate, count(rows, c.ffn));
  carver.take(s.up, count(rows, c.ffn));
  carver.take(s.act, count(rows, c.ffn));
  carver.take(s.logits, count(sizes.logit_rows, c.vocab));
  carver.take(s.scratch, s.scratch_stride * static_cast<std::size_t>(sizes.members));
  carver.take(s.prepared.bf16, count(hidden_rows, widest));
  carver.take(s.prepared.q8.q, count(hidden_rows, widest));
  carver.take(s.prepared.q8.scale, count(hidden_rows, groups));
  carver.take(s.prepared.q8.sum, count(hidden_rows, groups));
  carver.take(s.prepared.q8.isum, count(hidden_rows, groups));
}

}  // namespace

std::size_t dense_kv_layer_bytes(const ModelConfig& config, DType dtype, std::int32_t block_tokens) {
  const auto elements = static_cast<std::size_t>(config.kv_heads) *
                        static_cast<std::size_t>(config.head_dim + config.v_head_dim) *
                        static_cast<std::size_t>(block_tokens);
  return storage_bytes(dtype, elements);
}

Result<RunState> make_run_state(const ModelConfig& config, const RunStateSizes& sizes) {
  RunState s;
  constexpr std::size_t kFloatsPerLine = kAlignment / sizeof(float);
  s.scratch_stride = (sizes.scratch_floats + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
  Carver counter;
  carve(config, sizes, counter, s);
  HP_TRY(s.memory, Buffer::allocate(counter.used));
  Carver carver{.base = s.memory.data()};
  carve(config, sizes, carver, s);
  s.layer_kv_bytes = dense_kv_layer_bytes(config, sizes.kv_dtype, sizes.block_tokens);
  const std::size_t block_bytes = s.layer_kv_bytes * static_cast<std::size_t>(config.layers);
  HP_TRY(s.kv, Buffer::allocate(block_bytes * static_cast<std::size_t>(sizes.blocks)));
  return s;
}

}  // namespace hp
