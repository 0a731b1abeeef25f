#include "arch/cpu/run_state.h"

#include "base/check.h"

namespace hp {
namespace {

static_assert(kernels::kQuantGroup == 32, "model/footprint sizes scales by groups of 32");

// Hands out aligned pieces of one buffer; with a null base it only counts.
struct Carver {
  std::byte* base = nullptr;
  std::size_t used = 0;

  template <typename T>
  void take(T*& out, std::size_t count) {
    out = base == nullptr || count == 0 ? nullptr : reinterpret_cast<T*>(base + used);
    used += (count * sizeof(T) + kStepAlignment - 1) / kStepAlignment * kStepAlignment;
  }
  void take(PreparedRows& out, std::size_t values, std::size_t groups) {
    take(out.bf16, values);
    take(out.q8.q, groups * static_cast<std::size_t>(kernels::kQuantGroupBytes));
    take(out.q8.scale, groups);
    take(out.q8.sum, groups);
    take(out.q8.isum, groups);
  }
};

void carve(const StepArrays& a, Carver& carver, RunState& s, std::int32_t*& route) {
  carver.take(s.x, a.x);
  carver.take(s.normed, a.normed);
  carver.take(s.q, a.q);
  carver.take(s.k, a.k);
  carver.take(s.v, a.v);
  carver.take(s.q_low, a.q_low);
  carver.take(s.q_nope, a.q_nope);
  carver.take(s.q_latent, a.q_latent);
  carver.take(s.latent, a.latent);
  carver.take(s.pairs, a.pairs);
  carver.take(s.attended, a.attended);
  carver.take(s.gate, a.gate);
  carver.take(s.up, a.up);
  carver.take(s.act, a.act);
  carver.take(s.expert_out, a.expert_out);
  carver.take(s.scores, a.scores);
  carver.take(s.slot_weight, a.slot_weight);
  carver.take(s.logits, a.logits);
  carver.take(s.joined, a.joined);
  carver.take(s.gathered, a.gathered);
  carver.take(s.scratch, a.scratch);
  carver.take(s.prepared, a.prepared, a.prepared_groups);
  carver.take(s.prepared_shared, a.shared_prepared, a.shared_groups);
  carver.take(route, a.route);
}

// The integer arrays, one after the other: their sum is StepArrays::route.
void carve_route(const ModelConfig& c, const StepLimits& limits, std::int32_t* at, RunState& s) {
  const auto rows = static_cast<std::size_t>(limits.rows);
  if (c.moe.has_value()) {
    const std::size_t slots = rows * static_cast<std::size_t>(c.moe->experts_per_token);
    s.route = {.expert = at, .slot = at + slots, .row = at + 2 * slots, .first_slot = at + 3 * slots};
    at += 3 * slots + static_cast<std::size_t>(c.moe->experts) + 1;
  }
  if (!c.mla.has_value()) return;
  s.head_rows = at;
  s.head_rows_stride = limits.rows;
  for (std::int32_t h = 0; h < c.heads; ++h)
    for (std::int32_t t = 0; t < limits.rows; ++t) *at++ = t * c.heads + h;
}

}  // namespace

Result<RunState> make_run_state(const ModelConfig& config, const RunStateSizes& sizes) {
  RunState s;
  const StepArrays arrays = step_arrays(config, sizes.limits);
  s.rows_room = std::max(sizes.limits.rows, sizes.limits.logit_rows);
  s.prepared_values = arrays.prepared;
  s.prepared_groups = arrays.prepared_groups;
  s.scratch_stride = arrays.scratch / static_cast<std::size_t>(sizes.limits.members);
  HP_TRY(s.memory, Buffer::allocate(step_bytes(arrays)));
  Carver carver{.base = s.memory.data()};
  std::int32_t* route = nullptr;
  carve(arrays, carver, s, route);
  HP_CHECK(carver.used == s.memory.size(), "{} bytes carved of {}", carver.used, s.memory.size());
  carve_route(config, sizes.limits, route, s);
  s.layer_kv_bytes = kv_bytes_per_token_layer(config, sizes.kv.dtype) * static_cast<std::size_t>(sizes.kv.block_tokens);
  HP_TRY(s.kv, Buffer::allocate(kv_bytes_per_block(config, sizes.kv) * static_cast<std::size_t>(sizes.blocks)));
  return s;
}

}  // namespace hp
